import type { DropReason } from "../association-output.js";

/**
 * DTLSPlaintext and DTLSCiphertext (RFC 6347 §4.3.1), and the latter with a connection identifier (RFC 9146 §4), whose
 * length only its receiver knows:
 *
 * ```
 *  0      1         3       5                 11       13
 *  +------+---------+-------+-----------------+--------+----------+
 *  | type | version | epoch | sequence number | length | fragment |
 *  +------+---------+-------+-----------------+--------+----------+
 *  +------+---------+-------+-----------------+---------------+--------+----------+
 *  |  25  | version | epoch | sequence number | connection id | length | fragment |
 *  +------+---------+-------+-----------------+---------------+--------+----------+
 * ```
 */
export interface RecordHeader {
  readonly type: ContentType | typeof TLS12_CID;
  readonly version: number;
  readonly epoch: number;
  /** 48 bits. */
  readonly sequenceNumber: number;
  /** Of the fragment, which follows the header. */
  readonly length: number;
}

export type ContentType = (typeof CONTENT_TYPES)[keyof typeof CONTENT_TYPES];

export const CONTENT_TYPES = {
  changeCipherSpec: 20,
  alert: 21,
  handshake: 22,
  applicationData: 23,
  /** RFC 9853 §4. */
  returnRoutabilityCheck: 27,
} as const;
/** The content type of a record with a connection identifier; its real one is inside (RFC 9146 §4). */
export const TLS12_CID = 25;

/** Without a connection identifier. */
export const RECORD_HEADER_BYTES = 13;
/** Where a connection identifier stands. */
export const CONNECTION_ID_AT = 11;
export const DTLS_1_0 = 0xfeff;
export const DTLS_1_2 = 0xfefd;
export const MAX_SEQUENCE_NUMBER: number = 2 ** 48 - 1;
/** Of plaintext (RFC 5246 §6.2.1). */
export const MAX_PLAINTEXT_BYTES: number = 2 ** 14;

/** A record that cannot be taken. `skipBytes` leads to the next one; undefined when the rest of the datagram is lost. */
export interface BadRecord {
  readonly drop: DropReason;
  readonly skipBytes: number | undefined;
}

/**
 * The header of the record at `offset`; its fragment lies wholly inside the datagram. `connectionIdBytes`: the length of
 * the receiver's connection identifier, 0 for none.
 */
export function decodeRecordHeader(
  datagram: Uint8Array,
  offset: number,
  connectionIdBytes = 0,
): RecordHeader | BadRecord {
  const type = datagram[offset] ?? 0;
  if (type === TLS12_CID && connectionIdBytes === 0) return { drop: "unknown-connection-id", skipBytes: undefined };
  const headerBytes = RECORD_HEADER_BYTES + (type === TLS12_CID ? connectionIdBytes : 0);
  const left = datagram.length - offset - headerBytes;
  if (left < 0) return { drop: "truncated-record", skipBytes: undefined };
  const length = uint16At(datagram, offset + headerBytes - 2);
  if (length > left) return { drop: "truncated-record", skipBytes: undefined };
  const skipBytes = headerBytes + length;
  if (!isContentType(type) && type !== TLS12_CID) return { drop: "unknown-content-type", skipBytes };
  const version = uint16At(datagram, offset + 1);
  if (version !== DTLS_1_2 && version !== DTLS_1_0) return { drop: "wrong-version", skipBytes };
  // RFC 5246 §6.2.3: a ciphertext is at most 2^14 + 2048 bytes; no AEAD here adds more than 24.
  const epoch = uint16At(datagram, offset + 3);
  if (length > MAX_PLAINTEXT_BYTES + (epoch === 0 ? 0 : 2048)) return { drop: "record-too-long", skipBytes };
  const low = ((uint16At(datagram, offset + 7) << 16) | uint16At(datagram, offset + 9)) >>> 0;
  const sequenceNumber = uint16At(datagram, offset + 5) * 0x1_0000_0000 + low;
  return { type, version, epoch, sequenceNumber, length };
}

function uint16At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

/** Writes the header at `offset` of `into`. */
export function encodeRecordHeader(
  header: RecordHeader,
  into: Uint8Array,
  offset = 0,
  connectionId: Uint8Array = NO_CONNECTION_ID,
): void {
  into[offset] = header.type;
  into[offset + 1] = header.version >> 8;
  into[offset + 2] = header.version;
  writeEpochAndSequence(header.epoch, header.sequenceNumber, into, offset + 3);
  if (connectionId.length > 0) into.set(connectionId, offset + CONNECTION_ID_AT);
  const lengthAt = offset + CONNECTION_ID_AT + connectionId.length;
  into[lengthAt] = header.length >> 8;
  into[lengthAt + 1] = header.length;
}

/** The 8 bytes epoch ‖ sequence number, which are also the AEAD's explicit nonce. */
export function writeEpochAndSequence(epoch: number, sequenceNumber: number, into: Uint8Array, offset: number): void {
  const high = Math.floor(sequenceNumber / 0x1_0000_0000);
  into[offset] = epoch >> 8;
  into[offset + 1] = epoch;
  into[offset + 2] = high >> 8;
  into[offset + 3] = high;
  into[offset + 4] = sequenceNumber >>> 24;
  into[offset + 5] = sequenceNumber >>> 16;
  into[offset + 6] = sequenceNumber >>> 8;
  into[offset + 7] = sequenceNumber;
}

export function isContentType(type: number): type is ContentType {
  const isOfTls = type >= CONTENT_TYPES.changeCipherSpec && type <= CONTENT_TYPES.applicationData;
  return isOfTls || type === CONTENT_TYPES.returnRoutabilityCheck;
}

const NO_CONNECTION_ID: Uint8Array = new Uint8Array(0);
