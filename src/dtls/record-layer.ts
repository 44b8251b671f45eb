import type { DropReason } from "./association-output.js";
import { type AeadKey, createAeadKey, releaseAeadKey } from "./crypto/aead.js";
import { KEY_BYTES, SALT_BYTES } from "./crypto/key-schedule.js";
import type { AeadName } from "./crypto/suites.js";
import { DtlsError } from "./errors.js";
import { ReplayWindow } from "./replay-window.js";
import {
  type ContentType,
  DTLS_1_2,
  encodeRecordHeader,
  MAX_PLAINTEXT_BYTES,
  MAX_SEQUENCE_NUMBER,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  writeEpochAndSequence,
} from "./wire/record.js";
import { copyOf } from "./wire/writer.js";

/**
 * Record protection of one association. There are two epochs: 0 in the clear, and 1 under the keys of the handshake
 * (renegotiation, which would make more, is refused).
 *
 * The explicit nonce of the AEAD is epoch ‖ sequence number (RFC 6655 §3, RFC 5288 §3), so a nonce is used twice only if
 * a sequence number is, and none is given out twice.
 */
export class RecordLayer {
  readonly #first0: number;
  #next0: number;
  #next1 = 0;
  #writeEpoch: Epoch = 0;
  #keys: DirectionalKeys | undefined;
  readonly #window = new ReplayWindow();

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

  /** Makes epoch 1 readable and writable. `keyBlock` is copied. */
  installKeys(aead: AeadName, keyBlock: Uint8Array, role: "client" | "server"): void {
    const key = (index: number): AeadKey =>
      createAeadKey(aead, copyOf(keyBlock, index * KEY_BYTES, (index + 1) * KEY_BYTES));
    const salt = (index: number): Uint8Array => {
      const from = 2 * KEY_BYTES + index * SALT_BYTES;
      return copyOf(keyBlock, from, from + SALT_BYTES);
    };
    const [write, read] = role === "client" ? [0, 1] : [1, 0];
    this.#keys = { read: key(read), readSalt: salt(read), write: key(write), writeSalt: salt(write) };
  }

  startWritingEpoch1(): void {
    this.#writeEpoch = 1;
  }

  /** What a record of this epoch adds to its plaintext. */
  overheadBytes(epoch: Epoch): number {
    if (epoch === 0 || this.#keys === undefined) return RECORD_HEADER_BYTES;
    return RECORD_HEADER_BYTES + EXPLICIT_NONCE_BYTES + this.#keys.write.tagBytes;
  }

  /**
   * A whole record with a fresh sequence number, in fresh bytes.
   * @throws DtlsError DTLS_SEQUENCE_EXHAUSTED, DTLS_MESSAGE_TOO_LARGE
   */
  seal(epoch: Epoch, type: ContentType, plaintext: Uint8Array): Uint8Array {
    if (plaintext.length > MAX_PLAINTEXT_BYTES) throw new DtlsError("DTLS_MESSAGE_TOO_LARGE");
    const sequenceNumber = this.#takeSequenceNumber(epoch);
    const record = new Uint8Array(this.overheadBytes(epoch) + plaintext.length);
    const length = record.length - RECORD_HEADER_BYTES;
    encodeRecordHeader({ type, version: DTLS_1_2, epoch, sequenceNumber, length }, record);
    if (epoch === 0) {
      record.set(plaintext, RECORD_HEADER_BYTES);
      return record;
    }
    if (this.#keys === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR", "no keys");
    const { write, writeSalt } = this.#keys;
    writeEpochAndSequence(epoch, sequenceNumber, record, RECORD_HEADER_BYTES);
    prepareNonceAndAad(writeSalt, record, RECORD_HEADER_BYTES, type, epoch, sequenceNumber, plaintext.length);
    write.seal(NONCE, AAD, plaintext, record, RECORD_HEADER_BYTES + EXPLICIT_NONCE_BYTES);
    return record;
  }

  /** The plaintext of an epoch-1 record, in fresh bytes; or why it is dropped. The window moves only on success. */
  open(header: RecordHeader, fragment: Uint8Array): Uint8Array | DropReason {
    if (this.#keys === undefined) return "unexpected-epoch";
    const { read, readSalt } = this.#keys;
    const plaintextBytes = fragment.length - EXPLICIT_NONCE_BYTES - read.tagBytes;
    if (plaintextBytes < 0) return "record-too-short";
    if (plaintextBytes > MAX_PLAINTEXT_BYTES) return "record-too-long";
    if (!this.#window.isFresh(header.sequenceNumber)) return "replayed";
    prepareNonceAndAad(readSalt, fragment, 0, header.type, header.epoch, header.sequenceNumber, plaintextBytes);
    const plaintext = read.open(NONCE, AAD, fragment.subarray(EXPLICIT_NONCE_BYTES));
    if (plaintext === undefined) return "bad-mac";
    this.#window.mark(header.sequenceNumber);
    return plaintext;
  }

  /** Nothing more will be sealed or opened. */
  release(): void {
    if (this.#keys === undefined) return;
    releaseAeadKey(this.#keys.read);
    releaseAeadKey(this.#keys.write);
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

interface DirectionalKeys {
  readonly read: AeadKey;
  readonly readSalt: Uint8Array;
  readonly write: AeadKey;
  readonly writeSalt: Uint8Array;
}

/**
 * Nonce: salt (4) ‖ explicit nonce (8). Additional data: epoch ‖ sequence number (8) ‖ type ‖ version ‖ plaintext length
 * (RFC 5246 §6.2.3.3, RFC 6347 §4.1.2.1).
 */
function prepareNonceAndAad(
  salt: Uint8Array,
  explicitNonce: Uint8Array,
  explicitNonceAt: number,
  type: ContentType,
  epoch: number,
  sequenceNumber: number,
  plaintextBytes: number,
): void {
  for (let i = 0; i < SALT_BYTES; i++) NONCE[i] = salt[i] ?? 0;
  for (let i = 0; i < EXPLICIT_NONCE_BYTES; i++) NONCE[SALT_BYTES + i] = explicitNonce[explicitNonceAt + i] ?? 0;
  writeEpochAndSequence(epoch, sequenceNumber, AAD, 0);
  AAD[8] = type;
  AAD[9] = DTLS_1_2 >> 8;
  AAD[10] = DTLS_1_2 & 0xff;
  AAD[11] = plaintextBytes >> 8;
  AAD[12] = plaintextBytes;
}

const EXPLICIT_NONCE_BYTES = 8;
// Scratch space of the process, filled just before each use.
const NONCE: Uint8Array = new Uint8Array(SALT_BYTES + EXPLICIT_NONCE_BYTES);
const AAD: Uint8Array = new Uint8Array(13);
