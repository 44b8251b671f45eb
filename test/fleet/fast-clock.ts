/**
 * The clock of this process, at a pace that can be changed: `setTimeout`, `setInterval`, `performance.now` and `Date.now` go so
 * many times as fast as real time. Sockets do not, so that a pace above 1 is for times when nothing is on the network.
 */
export class FastClock {
  readonly #real = {
    now: performance.now.bind(performance),
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
  };
  readonly #pending = new Set<FastTimer>();
  readonly #originMs = Date.now();
  readonly #beganAt = performance.now();
  #pace = 1;
  #realAt: number = performance.now();
  #virtualAt: number = performance.now();

  /** Takes the place of the process's own. */
  install(): void {
    const schedule = (call: (...values: unknown[]) => void, ms = 0, ...values: unknown[]): FastTimer =>
      this.#arm(new FastTimer(() => call(...values), this, ms, false));
    const repeat = (call: (...values: unknown[]) => void, ms = 0, ...values: unknown[]): FastTimer =>
      this.#arm(new FastTimer(() => call(...values), this, ms, true));
    const clear = (timer: unknown): void => {
      if (timer instanceof FastTimer) this.#disarm(timer);
      else this.#real.clearTimeout(timer as NodeJS.Timeout | undefined);
    };
    Object.assign(globalThis, { setTimeout: schedule, setInterval: repeat, clearTimeout: clear, clearInterval: clear });
    performance.now = () => this.now();
    Date.now = () => this.#originMs + this.now() - this.#beganAt;
  }

  /** ms of this clock. */
  now(): number {
    return this.#virtualAt + (this.#real.now() - this.#realAt) * this.#pace;
  }

  realNow(): number {
    return this.#real.now();
  }

  set pace(pace: number) {
    this.#virtualAt = this.now();
    this.#realAt = this.#real.now();
    this.#pace = pace;
    for (const timer of this.#pending) this.#arm(timer);
  }

  /** For its timers. */
  arm(timer: FastTimer): void {
    this.#arm(timer);
  }

  #arm(timer: FastTimer): FastTimer {
    this.#real.clearTimeout(timer.real);
    this.#pending.add(timer);
    timer.real = this.#real.setTimeout(() => this.#fire(timer), Math.max(0, (timer.at - this.now()) / this.#pace));
    if (!timer.isRef) timer.real.unref();
    return timer;
  }

  #disarm(timer: FastTimer): void {
    this.#pending.delete(timer);
    this.#real.clearTimeout(timer.real);
  }

  #fire(timer: FastTimer): void {
    if (!timer.isRepeated) this.#pending.delete(timer);
    else {
      timer.at = Math.max(timer.at + timer.afterMs, this.now());
      this.#arm(timer);
    }
    timer.call();
  }
}

class FastTimer {
  readonly call: () => void;
  readonly afterMs: number;
  readonly isRepeated: boolean;
  at: number;
  real: NodeJS.Timeout | undefined;
  isRef = true;
  readonly #clock: FastClock;

  constructor(call: () => void, clock: FastClock, ms: number, isRepeated: boolean) {
    this.call = call;
    this.#clock = clock;
    this.afterMs = Math.max(1, ms);
    this.at = clock.now() + this.afterMs;
    this.isRepeated = isRepeated;
  }

  refresh(): this {
    this.at = this.#clock.now() + this.afterMs;
    this.#clock.arm(this);
    return this;
  }

  unref(): this {
    this.isRef = false;
    this.real?.unref();
    return this;
  }

  ref(): this {
    this.isRef = true;
    this.real?.ref();
    return this;
  }
}
