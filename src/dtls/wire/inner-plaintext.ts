import { type ContentType, isContentType } from "./record.js";

/**
 * DTLSInnerPlaintext (RFC 9146 §4), what a record with a connection identifier encrypts:
 *
 * ```
 *  +---------+-----------+----------+
 *  | content | real type | zeros…   |
 *  +---------+-----------+----------+
 * ```
 */
export function encodeInnerPlaintext(type: ContentType, content: Uint8Array, blockBytes: number): Uint8Array {
  const inner = new Uint8Array(innerPlaintextBytes(content.length, blockBytes));
  inner.set(content);
  writeInnerPlaintextEnd(type, inner, content.length, inner.length);
  return inner;
}

/** Type and zeros, after a content that ends at `at`. */
export function writeInnerPlaintextEnd(type: ContentType, into: Uint8Array, at: number, end: number): void {
  into[at] = type;
  into.fill(0, at + 1, end);
}

/** Padded to a multiple of `blockBytes`. */
export function innerPlaintextBytes(contentBytes: number, blockBytes: number): number {
  return Math.ceil((contentBytes + 1) / blockBytes) * blockBytes;
}

/** The real type, and the content's length; undefined when there is none, all being zeros, or it is unknown. */
export function readInnerPlaintext(
  inner: Uint8Array,
): { readonly type: ContentType; readonly length: number } | undefined {
  let at = inner.length - 1;
  while (at >= 0 && inner[at] === 0) at--;
  const type = inner[at] ?? 0;
  return isContentType(type) ? { type, length: at } : undefined;
}
