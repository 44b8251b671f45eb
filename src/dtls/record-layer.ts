import type { DropReason } from "./association-output.js";
import { type AeadKey, createAeadKey, releaseAeadKey } from "./crypto/aead.js";
import { KEY_BYTES, SALT_BYTES } from "./crypto/key-schedule.js";
import { viewOf } from "./crypto/sha256.js";
import type { AeadName } from "./crypto/suites.js";
import { DtlsError } from "./errors.js";
import { NO_RECORD_LIMITS, type RecordLimits } from "./handshake/record-limits.js";
import { ReplayWindow } from "./replay-window.js";
import { innerPlaintextBytes, readInnerPlaintext, writeInnerPlaintextEnd } from "./wire/inner-plaintext.js";
import {
  CONTENT_TYPES,
  type ContentType,
  DTLS_1_2,
  encodeRecordHeader,
  MAX_PLAINTEXT_BYTES,
  MAX_SEQUENCE_NUMBER,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  TLS12_CID,
  writeEpochAndSequence,
} from "./wire/record.js";
import { datagramBytes } from "./wire/writer.js";

/**
 * Record protection of one association. There are two epochs: 0 in the clear, and 1 under the keys of the handshake
 * (renegotiation, which would make more, is refused).
 *
 * The explicit nonce of the AEAD is epoch ‖ sequence number (RFC 6655 §3, RFC 5288 §3), so a nonce is used twice only if
 * a sequence number is, and none is given out twice.
 *
 * With connection identifiers (RFC 9146), a direction whose receiver has one carries it in every record of epoch 1, and
 * nothing else is taken.
 */
export class RecordLayer {
  /** Of the record that `open` gave last: its real content type, and whether it is newer than all before it. */
  openedType: ContentType = CONTENT_TYPES.applicationData;
  openedNewest = false;
  readonly #first0: number;
  #next0: number;
  #next1 = 0;
  #writeEpoch: Epoch = 0;
  #keys: DirectionalKeys | undefined;
  readonly #window = new ReplayWindow();
  #ownConnectionId: Uint8Array = NO_CONNECTION_ID;
  #peerConnectionId: Uint8Array = NO_CONNECTION_ID;
  #paddingBlockBytes = 1;
  #limits: RecordLimits = NO_RECORD_LIMITS;

  /** `firstSequenceNumber`: of epoch 0. A server goes on from the ClientHello's (RFC 6347 §4.2.1). */
  constructor(firstSequenceNumber = 0) {
    this.#first0 = firstSequenceNumber;
    this.#next0 = firstSequenceNumber;
  }

  get hasKeys(): boolean {
    return this.#keys !== undefined;
  }

  get sealedRecords(): number {
    return this.#next0 - this.#first0 + this.#next1;
  }

  /** The epoch that alerts go out in: 1 once our ChangeCipherSpec was sent. */
  get writeEpoch(): Epoch {
    return this.#writeEpoch;
  }

  /** Makes epoch 1 readable and writable. `keyBlock` is kept: one array for both directions, as each costs 200 bytes besides its own. */
  installKeys(aead: AeadName, keyBlock: Uint8Array, role: "client" | "server"): void {
    const write = role === "client" ? 0 : 1;
    const read = 1 - write;
    this.#keys = {
      read: createAeadKey(aead, keyBlock, read * KEY_BYTES),
      write: createAeadKey(aead, keyBlock, write * KEY_BYTES),
      readSaltAt: 2 * KEY_BYTES + read * SALT_BYTES,
      writeSaltAt: 2 * KEY_BYTES + write * SALT_BYTES,
      bytes: keyBlock,
    };
  }

  /** What was negotiated: ours, for what we receive, and the peer's; either may be empty. */
  useConnectionIds(own: Uint8Array, peers: Uint8Array, paddingBlockBytes: number): void {
    this.#ownConnectionId = own;
    this.#peerConnectionId = peers;
    this.#paddingBlockBytes = paddingBlockBytes;
  }

  /** Empty when records come without. */
  get ownConnectionId(): Uint8Array {
    return this.#ownConnectionId;
  }

  get peerConnectionId(): Uint8Array {
    return this.#peerConnectionId;
  }

  limitRecords(limits: RecordLimits): void {
    this.#limits = limits;
  }

  /** Of our records; with padding included, what stays for the content (RFC 8449 §4). */
  maxPlaintextBytes(epoch: Epoch): number {
    if (epoch === 0) return this.#limits.sendPlaintextBytes;
    const { sendProtectedBytes } = this.#limits;
    if (this.#peerConnectionId.length === 0) return sendProtectedBytes;
    return sendProtectedBytes - (sendProtectedBytes % this.#blockBytes) - 1;
  }

  /** Padding never takes a record past what the peer takes. */
  get #blockBytes(): number {
    return Math.min(this.#paddingBlockBytes, this.#limits.sendProtectedBytes);
  }

  /** Of epoch 1: the number that our next record has, the newest of the peer's, and that of the record opened last. */
  get nextSequenceNumber(): number {
    return this.#next1;
  }

  get newestReceived(): number {
    return this.#window.newest;
  }

  /** Goes on in epoch 1 from saved numbers (S3, S4). */
  restoreNumbers(sendBound: number, receiveFloor: number): void {
    this.#writeEpoch = 1;
    this.#next1 = sendBound;
    if (receiveFloor > 0) this.#window.rejectBelow(receiveFloor);
  }

  /** The key block that `installKeys` was given, not to be changed; undefined without keys. */
  get keyBlock(): Uint8Array | undefined {
    return this.#keys?.bytes;
  }

  get limits(): RecordLimits {
    return this.#limits;
  }

  startWritingEpoch1(): void {
    this.#writeEpoch = 1;
  }

  /** What a record of this epoch adds to its plaintext, at most. */
  overheadBytes(epoch: Epoch): number {
    if (epoch === 0 || this.#keys === undefined) return RECORD_HEADER_BYTES;
    const connectionIdBytes = this.#peerConnectionId.length;
    const innerBytes = connectionIdBytes === 0 ? 0 : connectionIdBytes + this.#blockBytes;
    return RECORD_HEADER_BYTES + innerBytes + EXPLICIT_NONCE_BYTES + this.#keys.write.tagBytes;
  }

  /** The fragment's length of an epoch-1 record of the peer with unpadded content. */
  expectedFragmentBytes(contentBytes: number): number {
    const inner = this.#ownConnectionId.length === 0 ? contentBytes : innerPlaintextBytes(contentBytes, 1);
    return EXPLICIT_NONCE_BYTES + (this.#keys?.read.tagBytes ?? 0) + inner;
  }

  /**
   * A whole record with a fresh sequence number, to be sent soon (`datagramBytes`).
   * @throws DtlsError DTLS_SEQUENCE_EXHAUSTED, DTLS_MESSAGE_TOO_LARGE
   */
  seal(epoch: Epoch, type: ContentType, plaintext: Uint8Array): Uint8Array {
    const record = datagramBytes(this.#recordBytes(epoch, plaintext.length));
    record.set(plaintext, this.contentAt(epoch));
    this.sealInPlace(epoch, type, plaintext.length, record, 0);
    return record;
  }

  /** Where the content stands in a record of ours. */
  contentAt(epoch: Epoch): number {
    if (epoch === 0) return RECORD_HEADER_BYTES;
    return RECORD_HEADER_BYTES + this.#peerConnectionId.length + EXPLICIT_NONCE_BYTES;
  }

  /**
   * Makes a record of the content that stands in its place, for a record at `at` of `into`; there must be room for the
   * content and `overheadBytes`. Gives where the record ends.
   * @throws as `seal` does
   */
  sealInPlace(epoch: Epoch, type: ContentType, contentBytes: number, into: Uint8Array, at: number): number {
    if (contentBytes > MAX_PLAINTEXT_BYTES) throw new DtlsError("DTLS_MESSAGE_TOO_LARGE");
    const connectionId = epoch === 0 ? NO_CONNECTION_ID : this.#peerConnectionId;
    const hasConnectionId = connectionId.length > 0;
    const end = at + this.#recordBytes(epoch, contentBytes);
    const fragmentAt = at + RECORD_HEADER_BYTES + connectionId.length;
    const sequenceNumber = this.#takeSequenceNumber(epoch);
    const outerType = hasConnectionId ? TLS12_CID : type;
    const length = end - fragmentAt;
    encodeRecordHeader({ type: outerType, version: DTLS_1_2, epoch, sequenceNumber, length }, into, at, connectionId);
    if (epoch === 0) return end;
    if (this.#keys === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR", "no keys");
    const { write, writeSaltAt, bytes } = this.#keys;
    const contentAt = fragmentAt + EXPLICIT_NONCE_BYTES;
    const protectedBytes = end - write.tagBytes - contentAt;
    writeEpochAndSequence(epoch, sequenceNumber, into, fragmentAt);
    if (hasConnectionId) {
      writeInnerPlaintextEnd(type, into, contentAt + contentBytes, contentAt + protectedBytes);
      prepareNonce(bytes, writeSaltAt, into, fragmentAt);
      write.seal(NONCE, connectionIdAad(connectionId, sequenceNumber, protectedBytes), into, contentAt, protectedBytes);
    } else {
      prepareNonceAndAad(bytes, writeSaltAt, into, fragmentAt, type, epoch, sequenceNumber, protectedBytes);
      write.seal(NONCE, AAD, into, contentAt, protectedBytes);
    }
    return end;
  }

  /**
   * The plaintext of an epoch-1 record; or why it is dropped. Of data it is in fresh bytes, of what is read at once perhaps
   * in scratch space, valid until the next record is opened. `at`: where in `source` its fragment stands, whole. The window
   * moves only on success.
   */
  open(header: RecordHeader, source: Uint8Array, at = 0): Uint8Array | DropReason {
    if (this.#keys === undefined) return "unexpected-epoch";
    const { type, epoch, sequenceNumber, length } = header;
    const hasConnectionId = type === TLS12_CID;
    if (hasConnectionId !== this.#ownConnectionId.length > 0) return "connection-id-missing";
    const { read, readSaltAt, bytes } = this.#keys;
    const plaintextBytes = length - EXPLICIT_NONCE_BYTES - read.tagBytes;
    if (plaintextBytes < 0) return "record-too-short";
    const innerOverhead = hasConnectionId ? MAX_INNER_OVERHEAD_BYTES : 0;
    if (plaintextBytes > this.#limits.receiveProtectedBytes + innerOverhead) return "record-too-long";
    if (!this.#window.isFresh(sequenceNumber)) return "replayed";
    if (type === TLS12_CID) return this.#openWithConnectionId(header, source, at, plaintextBytes);
    prepareNonceAndAad(bytes, readSaltAt, source, at, type, epoch, sequenceNumber, plaintextBytes);
    // A small array of its own would be moved out of V8's heap when it is looked into by a view, which costs 1 µs.
    const isReadAtOnce = type === CONTENT_TYPES.handshake || type === CONTENT_TYPES.alert;
    const into =
      isReadAtOnce && plaintextBytes <= PLAINTEXT.length
        ? viewOf(PLAINTEXT, PLAINTEXT_VIEWS, plaintextBytes)
        : new Uint8Array(plaintextBytes);
    const plaintext = read.open(NONCE, AAD, source, at + EXPLICIT_NONCE_BYTES, at + length, into);
    if (plaintext === undefined) return "bad-mac";
    this.openedType = type;
    this.#mark(sequenceNumber);
    return plaintext;
  }

  #recordBytes(epoch: Epoch, plaintextBytes: number): number {
    if (epoch === 0 || this.#keys === undefined) return RECORD_HEADER_BYTES + plaintextBytes;
    const around = RECORD_HEADER_BYTES + EXPLICIT_NONCE_BYTES + this.#keys.write.tagBytes;
    const connectionIdBytes = this.#peerConnectionId.length;
    if (connectionIdBytes === 0) return around + plaintextBytes;
    return around + connectionIdBytes + innerPlaintextBytes(plaintextBytes, this.#blockBytes);
  }

  #openWithConnectionId(
    header: RecordHeader,
    source: Uint8Array,
    at: number,
    innerBytes: number,
  ): Uint8Array | DropReason {
    if (this.#keys === undefined) return "unexpected-epoch";
    const { read, readSaltAt, bytes } = this.#keys;
    prepareNonce(bytes, readSaltAt, source, at);
    const aad = connectionIdAad(this.#ownConnectionId, header.sequenceNumber, innerBytes);
    const inner = read.open(NONCE, aad, source, at + EXPLICIT_NONCE_BYTES, at + header.length);
    if (inner === undefined) return "bad-mac";
    const content = readInnerPlaintext(inner);
    if (content === undefined) return "malformed-inner-plaintext";
    if (content.length > this.#limits.receiveProtectedBytes) return "record-too-long";
    this.openedType = content.type;
    this.#mark(header.sequenceNumber);
    return inner.subarray(0, content.length);
  }

  #mark(sequenceNumber: number): void {
    this.openedNewest = this.#window.isNewest(sequenceNumber);
    this.#window.mark(sequenceNumber);
  }

  /** Nothing more will be sealed or opened: the keys are wiped. */
  release(): void {
    if (this.#keys === undefined) return;
    releaseAeadKey(this.#keys.read);
    releaseAeadKey(this.#keys.write);
    this.#keys.bytes.fill(0);
    this.#keys = undefined;
  }

  /** The last number is never used, so that neither it nor the epoch can wrap (RFC 6347 §4.1). */
  #takeSequenceNumber(epoch: Epoch): number {
    const sequenceNumber = epoch === 0 ? this.#next0 : this.#next1;
    if (sequenceNumber >= MAX_SEQUENCE_NUMBER) throw new DtlsError("DTLS_SEQUENCE_EXHAUSTED");
    if (epoch === 0) this.#next0 = sequenceNumber + 1;
    else this.#next1 = sequenceNumber + 1;
    return sequenceNumber;
  }
}

export type Epoch = 0 | 1;

/** `bytes`: the key block, in which the salts stand too. */
interface DirectionalKeys {
  readonly read: AeadKey;
  readonly write: AeadKey;
  readonly readSaltAt: number;
  readonly writeSaltAt: number;
  readonly bytes: Uint8Array;
}

/**
 * Nonce: salt (4) ‖ explicit nonce (8). Additional data: epoch ‖ sequence number (8) ‖ type ‖ version ‖ plaintext length
 * (RFC 5246 §6.2.3.3, RFC 6347 §4.1.2.1).
 */
function prepareNonceAndAad(
  keys: Uint8Array,
  saltAt: number,
  explicitNonce: Uint8Array,
  explicitNonceAt: number,
  type: ContentType,
  epoch: number,
  sequenceNumber: number,
  plaintextBytes: number,
): void {
  prepareNonce(keys, saltAt, explicitNonce, explicitNonceAt);
  writeEpochAndSequence(epoch, sequenceNumber, AAD, 0);
  AAD[8] = type;
  AAD[9] = DTLS_1_2 >> 8;
  AAD[10] = DTLS_1_2 & 0xff;
  AAD[11] = plaintextBytes >> 8;
  AAD[12] = plaintextBytes;
}

function prepareNonce(keys: Uint8Array, saltAt: number, explicitNonce: Uint8Array, explicitNonceAt: number): void {
  for (let i = 0; i < SALT_BYTES; i++) NONCE[i] = keys[saltAt + i] ?? 0;
  for (let i = 0; i < EXPLICIT_NONCE_BYTES; i++) NONCE[SALT_BYTES + i] = explicitNonce[explicitNonceAt + i] ?? 0;
}

/**
 * Additional data with a connection identifier (RFC 9146 §5.3): ff×8 ‖ 25 ‖ length of the identifier ‖ 25 ‖ version ‖
 * epoch ‖ sequence number ‖ identifier ‖ length of the inner plaintext.
 */
function connectionIdAad(connectionId: Uint8Array, sequenceNumber: number, innerBytes: number): Uint8Array {
  const aad = CONNECTION_ID_AAD;
  const lengthAt = 21 + connectionId.length;
  aad.fill(0xff, 0, 8);
  aad[8] = TLS12_CID;
  aad[9] = connectionId.length;
  aad[10] = TLS12_CID;
  aad[11] = DTLS_1_2 >> 8;
  aad[12] = DTLS_1_2 & 0xff;
  writeEpochAndSequence(1, sequenceNumber, aad, 13);
  aad.set(connectionId, 21);
  aad[lengthAt] = innerBytes >> 8;
  aad[lengthAt + 1] = innerBytes;
  return aad.subarray(0, lengthAt + 2);
}

const NO_CONNECTION_ID: Uint8Array = new Uint8Array(0);
const EXPLICIT_NONCE_BYTES = 8;
/** The content type, and padding. */
const MAX_INNER_OVERHEAD_BYTES = 256;
// Scratch space of the process, filled just before each use. PLAINTEXT is read before the next record is opened: a record of
// the handshake that is opened while another is handled, because it came early, is none of the same epoch.
const PLAINTEXT: Uint8Array = new Uint8Array(256);
const PLAINTEXT_VIEWS: (Uint8Array | undefined)[] = Array.from({ length: PLAINTEXT.length + 1 }, () => undefined);
const NONCE: Uint8Array = new Uint8Array(SALT_BYTES + EXPLICIT_NONCE_BYTES);
const AAD: Uint8Array = new Uint8Array(13);
const CONNECTION_ID_AAD: Uint8Array = new Uint8Array(23 + 255);
