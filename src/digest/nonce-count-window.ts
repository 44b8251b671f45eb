/**
 * Which nonce counts of one nonce were seen: a sliding window of the last 64 below the highest, in the manner of the
 * replay window of RFC 6347 §4.1.2.6. Counts within it may come in any order, each once; what lies below it can no longer
 * be told from a replay and is refused. Differs from RFC 7616 §3.4 ("nc" in strict order): requests run in parallel here
 * and datagrams overtake each other.
 */
export class NonceCountWindow {
  #highest = 0;
  /** Bit n: the count `highest - n` was seen. */
  #seen = 0n;

  /** Takes a count, 1 … 0xffffffff; true when it is the first time. Call it only for an authentic response. */
  accept(nonceCount: number): boolean {
    const ahead = nonceCount - this.#highest;
    if (ahead > 0) {
      this.#seen =
        ahead >= NONCE_COUNT_WINDOW ? 1n : BigInt.asUintN(NONCE_COUNT_WINDOW, this.#seen << BigInt(ahead)) | 1n;
      this.#highest = nonceCount;
      return true;
    }
    if (-ahead >= NONCE_COUNT_WINDOW) return false;
    const bit = 1n << BigInt(-ahead);
    if ((this.#seen & bit) !== 0n) return false;
    this.#seen |= bit;
    return true;
  }
}

/** Counts that a window spans. */
export const NONCE_COUNT_WINDOW = 64;
