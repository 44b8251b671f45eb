import { monotonicNow } from "#net/index.js";
import { pause } from "#waiting/index.js";

/** Whether the server shows any sign of life while something is asked of it. */
export class Silence {
  #askedAt: number | undefined;
  #heardAt = -Infinity;
  #heardTimes = 0;
  #requests = 0;
  readonly #waiting = new Set<() => void>();

  /** A request goes out. */
  asked(): void {
    this.#askedAt = monotonicNow();
    this.#requests += 1;
    this.#wake();
  }

  /** It has its response, or has failed. */
  settled(): void {
    this.#askedAt = undefined;
  }

  /** Something authentic came, whatever it was. */
  heard(): void {
    this.#heardAt = monotonicNow();
    this.#heardTimes += 1;
    this.#wake();
  }

  /** Since anything authentic came, ms. */
  get quietMs(): number {
    return monotonicNow() - this.#heardAt;
  }

  /** How many requests there have been. */
  get requests(): number {
    return this.#requests;
  }

  /** When the server was asked, or heard last, that has left a request open; undefined: nothing is asked of it. */
  get since(): number | undefined {
    return this.#askedAt === undefined ? undefined : Math.max(this.#askedAt, this.#heardAt);
  }

  /** Fulfilled when it has lasted so long, or when aborted. */
  async lasts(forMs: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { since } = this;
      const leftMs = since === undefined ? Infinity : since + forMs - monotonicNow();
      if (leftMs > 0) {
        await this.#change(leftMs, signal);
        continue;
      }
      await whatCame();
      if (this.since === since) return;
    }
  }

  /** Fulfilled with true as soon as anything is heard, with false after so long, or when aborted. */
  async ends(withinMs: number, signal: AbortSignal): Promise<boolean> {
    const before = this.#heardTimes;
    const until = monotonicNow() + withinMs;
    while (!signal.aborted && this.#heardTimes === before && monotonicNow() < until)
      await this.#change(until - monotonicNow(), signal);
    if (!signal.aborted && this.#heardTimes === before) await whatCame();
    return this.#heardTimes !== before;
  }

  /** Fulfilled when asked or heard, after so long, or when aborted. */
  async #change(withinMs: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    this.#waiting.add(wake);
    // AbortSignal.any would leave something at a signal that lives as long as the association, each time.
    signal.addEventListener("abort", wake, { once: true });
    if (signal.aborted) wake();
    await pause(withinMs, woken.signal);
    signal.removeEventListener("abort", wake);
    this.#waiting.delete(wake);
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

/** A process that stood still finds its timers due before it reads what came meanwhile. */
async function whatCame(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
}
