/** Keys of LMDB as text, a byte a character, written where LMDB wants them: without an array for each. */
export const LATIN1_KEYS = {
  /** Returns where it ends. @throws RangeError for what does not fit, which LMDB's library turns into its own error. */
  writeKey(key: string, target: Buffer, start: number): number {
    const end = start + key.length;
    if (end > target.length) throw new RangeError("the key does not fit");
    target.write(key, start, "latin1");
    return end;
  },
  readKey(source: Buffer, start: number, end: number): string {
    return source.toString("latin1", start, end);
  },
};
