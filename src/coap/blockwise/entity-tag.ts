/**
 * An ETag for a body that has none (RFC 7252 §5.10.6): two 32-bit FNV-1a hashes from different starts. It tells one
 * representation from the next; it is no defence against a chosen body.
 */
export function entityTag(body: Uint8Array, contentFormat: number | undefined): Uint8Array {
  let first = FNV_OFFSET_BASIS;
  let second = (FNV_OFFSET_BASIS ^ (contentFormat ?? -1) ^ body.length) >>> 0;
  for (let index = 0; index < body.length; index++) {
    const byte = body[index] ?? 0;
    first = Math.imul(first ^ byte, FNV_PRIME);
    second = Math.imul(second ^ byte ^ (index & 0xff), FNV_PRIME);
  }
  const tag = new Uint8Array(8);
  const view = new DataView(tag.buffer);
  view.setInt32(0, first);
  view.setInt32(4, second);
  return tag;
}

/** Whether two tags name the same representation; none is like none. */
export function isSameEtag(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

const FNV_OFFSET_BASIS = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
