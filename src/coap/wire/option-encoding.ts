/** Copies `source` from `start` to `end`; returns the index after the copy. A loop is faster for the few bytes of a message's head. */
export function copyBytes(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  targetIndex: number,
): number {
  if (end - start > LOOP_COPY_BYTES) {
    target.set(source.subarray(start, end), targetIndex);
    return targetIndex + end - start;
  }
  let index = targetIndex;
  for (let from = start; from < end; from++) target[index++] = source[from] ?? 0;
  return index;
}

/** The four bits of a delta or length (RFC 7252 §3.1). */
export function nibble(value: number): number {
  return value < 13 ? value : value < 269 ? 13 : 14;
}

/** How many bytes follow the four bits. */
export function extendedBytes(value: number): number {
  return value < 13 ? 0 : value < 269 ? 1 : 2;
}

/** Writes them; returns the index after them. */
export function writeExtended(bytes: Uint8Array, index: number, value: number): number {
  if (value < 13) return index;
  if (value < 269) {
    bytes[index] = value - 13;
    return index + 1;
  }
  bytes[index] = (value - 269) >> 8;
  bytes[index + 1] = (value - 269) & 0xff;
  return index + 2;
}

const LOOP_COPY_BYTES = 48;
