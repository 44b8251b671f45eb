/** How often each subscriber may have a certificate made: a device that asks for one after the other would have the CA sign without end. */
export class RenewalLimits {
  /** In order of their first renewal of late. */
  readonly #windows = new Map<string, { readonly startedAt: number; renewals: number }>();

  /** Counts one; gives the ms until another is made, 0 where this one may be. */
  take(subscriber: string, now: number): number {
    const known = this.#windows.get(subscriber);
    if (known === undefined || now - known.startedAt >= WINDOW_MS || now < known.startedAt) {
      this.#windows.delete(subscriber);
      this.#windows.set(subscriber, { startedAt: now, renewals: 1 });
      for (const [oldest, { startedAt }] of this.#windows) {
        if (this.#windows.size <= MAX_WINDOWS && now - startedAt < WINDOW_MS) break;
        this.#windows.delete(oldest);
      }
      return 0;
    }
    if (known.renewals >= MAX_RENEWALS) return known.startedAt + WINDOW_MS - now;
    known.renewals += 1;
    return 0;
  }
}

export const MAX_RENEWALS = 10;
const WINDOW_MS = 3_600_000;
/** Of some 100 bytes each. */
const MAX_WINDOWS = 100_000;
