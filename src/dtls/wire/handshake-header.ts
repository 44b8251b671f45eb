/**
 * The header of a handshake message or of a fragment of one (RFC 6347 §4.2.2):
 *
 * ```
 *  0      1        4             6                 9                 12
 *  +------+--------+-------------+-----------------+-----------------+----------+
 *  | type | length | message_seq | fragment_offset | fragment_length | fragment |
 *  +------+--------+-------------+-----------------+-----------------+----------+
 * ```
 */
export interface HandshakeFragment {
  readonly type: number;
  /** Of the whole message's body. */
  readonly length: number;
  readonly messageSeq: number;
  readonly fragmentOffset: number;
  /** A view into the record. */
  readonly fragment: Uint8Array;
}

export const HANDSHAKE_HEADER_BYTES = 12;

/** RFC 5246 §7.4, RFC 6347 §4.3.2, RFC 5077 §3.3. */
export const HANDSHAKE_TYPES = {
  hello_request: 0,
  client_hello: 1,
  server_hello: 2,
  hello_verify_request: 3,
  new_session_ticket: 4,
  certificate: 11,
  server_key_exchange: 12,
  certificate_request: 13,
  server_hello_done: 14,
  certificate_verify: 15,
  client_key_exchange: 16,
  finished: 20,
} as const;

export type HandshakeType = (typeof HANDSHAKE_TYPES)[keyof typeof HANDSHAKE_TYPES];

/**
 * The fragment at `offset` of a record's plaintext, which ends at `end` (a record may hold several); undefined when it is
 * malformed.
 */
export function decodeHandshakeFragment(
  plaintext: Uint8Array,
  offset: number,
  end: number = plaintext.length,
): HandshakeFragment | undefined {
  const fragmentLength = fragmentBytesAt(plaintext, offset, end);
  if (fragmentLength === undefined) return undefined;
  const start = offset + HANDSHAKE_HEADER_BYTES;
  const length = uint24At(plaintext, offset + 1);
  const fragmentOffset = uint24At(plaintext, offset + 6);
  return {
    type: plaintext[offset] ?? 0,
    length,
    messageSeq: uint24At(plaintext, offset + 3) & 0xffff,
    fragmentOffset,
    fragment: plaintext.subarray(start, start + fragmentLength),
  };
}

/**
 * How long the fragment is whose header stands at `offset` of a plaintext that ends at `end` of `bytes`; undefined when it
 * is malformed.
 */
export function fragmentBytesAt(bytes: Uint8Array, offset: number, end: number): number | undefined {
  const start = offset + HANDSHAKE_HEADER_BYTES;
  if (end < start) return undefined;
  const fragmentLength = uint24At(bytes, offset + 9);
  if (uint24At(bytes, offset + 6) + fragmentLength > uint24At(bytes, offset + 1)) return undefined;
  return fragmentLength > end - start ? undefined : fragmentLength;
}

export function uint24At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
}

export function encodeHandshakeFragment(fragment: HandshakeFragment): Uint8Array {
  const bytes = new Uint8Array(HANDSHAKE_HEADER_BYTES + fragment.fragment.length);
  writeHandshakeFragment(fragment, bytes, 0);
  return bytes;
}

/** Header and body, at `at` of `into`. */
export function writeHandshakeFragment(fragment: HandshakeFragment, into: Uint8Array, at: number): void {
  const { type, length, messageSeq, fragmentOffset, fragment: body } = fragment;
  writeHandshakeHeader(type, length, messageSeq, fragmentOffset, body.length, into, at);
  into.set(body, at + HANDSHAKE_HEADER_BYTES);
}

export function writeHandshakeHeader(
  type: number,
  length: number,
  messageSeq: number,
  from: number,
  fragmentLength: number,
  into: Uint8Array,
  at: number,
): void {
  into[at] = type;
  into[at + 1] = length >> 16;
  into[at + 2] = length >> 8;
  into[at + 3] = length;
  into[at + 4] = messageSeq >> 8;
  into[at + 5] = messageSeq;
  into[at + 6] = from >> 16;
  into[at + 7] = from >> 8;
  into[at + 8] = from;
  into[at + 9] = fragmentLength >> 16;
  into[at + 10] = fragmentLength >> 8;
  into[at + 11] = fragmentLength;
}
