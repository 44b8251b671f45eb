import { RadiusError } from "./errors.js";

/**
 * A RADIUS packet (RFC 2865 §3).
 *
 * ```
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |     Code      |  Identifier   |            Length             |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                     Authenticator (16 bytes)                  |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  Type, Length, Value ...
 * ```
 */
export interface RadiusPacket {
  readonly code: number;
  readonly identifier: number;
  readonly authenticator: Uint8Array;
  /** In the order of the packet. */
  readonly attributes: readonly RadiusAttribute[];
  /** The whole packet without what follows its Length: a view of the datagram. */
  readonly bytes: Uint8Array;
}

export interface RadiusAttribute {
  readonly type: number;
  readonly value: Uint8Array;
  /** Where the value begins in the packet. */
  readonly offset: number;
}

/** Views of `datagram`. @throws RadiusError RADIUS_MALFORMED. */
export function decodePacket(datagram: Uint8Array): RadiusPacket {
  const [code, identifier, high, low] = datagram;
  if (code === undefined || identifier === undefined || high === undefined || low === undefined)
    throw malformed("shorter than its header");
  const length = high * 256 + low;
  // RFC 2865 §3: fewer bytes than Length are to be discarded in silence, more are padding.
  if (length < HEADER_BYTES || length > MAX_PACKET_BYTES || length > datagram.length)
    throw malformed(`Length is ${length} of ${datagram.length} bytes`);
  const bytes = datagram.subarray(0, length);
  const attributes: RadiusAttribute[] = [];
  for (let offset = HEADER_BYTES; offset < length;) {
    const type = bytes[offset] ?? 0;
    const size = bytes[offset + 1] ?? 0;
    if (size < ATTRIBUTE_HEADER_BYTES || offset + size > length) throw malformed(`attribute ${type} does not fit`);
    const valueAt = offset + ATTRIBUTE_HEADER_BYTES;
    attributes.push({ type, value: bytes.subarray(valueAt, offset + size), offset: valueAt });
    offset += size;
  }
  return { code, identifier, authenticator: bytes.subarray(AUTHENTICATOR_AT, HEADER_BYTES), attributes, bytes };
}

/** A packet whose Authenticator is still to be set. @throws RadiusError RADIUS_MALFORMED for what is too long. */
export function encodePacket(
  code: number,
  identifier: number,
  attributes: readonly Pick<RadiusAttribute, "type" | "value">[],
): Uint8Array {
  const length = attributes.reduce((sum, { value }) => sum + ATTRIBUTE_HEADER_BYTES + value.length, HEADER_BYTES);
  if (length > MAX_PACKET_BYTES || attributes.some(({ value }) => value.length > MAX_VALUE_BYTES))
    throw malformed("too long to be sent");
  const bytes = new Uint8Array(length);
  bytes.set([code, identifier, length >> 8, length & 0xff]);
  let offset = HEADER_BYTES;
  for (const { type, value } of attributes) {
    bytes.set([type, ATTRIBUTE_HEADER_BYTES + value.length], offset);
    bytes.set(value, offset + ATTRIBUTE_HEADER_BYTES);
    offset += ATTRIBUTE_HEADER_BYTES + value.length;
  }
  return bytes;
}

export function malformed(what: string): RadiusError {
  return new RadiusError("RADIUS_MALFORMED", `a RADIUS packet is malformed: ${what}`);
}

/** RFC 2866 §3. */
export const RADIUS_CODE = { AccountingRequest: 4, AccountingResponse: 5 } as const;
export const AUTHENTICATOR_AT = 4;
export const HEADER_BYTES = 20;
const ATTRIBUTE_HEADER_BYTES = 2;
const MAX_VALUE_BYTES = 253;
/** RFC 2865 §3. */
const MAX_PACKET_BYTES = 4096;
