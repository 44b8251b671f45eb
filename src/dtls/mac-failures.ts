/**
 * A limit to the work that forged records can cause: when so many of one second did not verify, the rest of that second's
 * records are dropped unopened.
 */
export class MacFailures {
  readonly #maxPerSecond: number;
  #secondEndsAt = -Infinity;
  #failures = 0;

  constructor(maxPerSecond: number) {
    this.#maxPerSecond = maxPerSecond;
  }

  mayTry(now: number): boolean {
    return now >= this.#secondEndsAt || this.#failures < this.#maxPerSecond;
  }

  count(now: number): void {
    if (now >= this.#secondEndsAt) {
      this.#secondEndsAt = now + 1000;
      this.#failures = 0;
    }
    this.#failures++;
  }
}
