import { syncBuiltinESMExports } from "node:module";
import os from "node:os";
import { until } from "#testing/until.js";

/**
 * Takes the place of this process's clocks and timers, so that an hour passes in seconds while sockets stay real. For a test
 * file of its own: everything in the process lives in that time, until {@link restore}.
 */
export class VirtualTime {
  readonly #real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
    dateNow: Date.now,
    performanceNow: performance.now.bind(performance),
    uptime: os.uptime,
  };
  readonly #startedAt = { wall: Date.now(), monotonic: performance.now(), uptime: os.uptime() };
  readonly #timers = new Set<VirtualTimer>();
  #passedMs = 0;
  #turn = 0;
  /** Added to the wall clock alone: what somebody set it by. */
  wallOffsetMs = 0;

  constructor() {
    const start = (run: () => void, afterMs: number, everyMs?: number): VirtualTimer => {
      const timer = new VirtualTimer(this.#timers, run, this.#passedMs + Math.max(1, afterMs), everyMs, this.#turn++);
      this.#timers.add(timer);
      return timer;
    };
    type Run = (...args: unknown[]) => void;
    const clear = (timer: unknown): void => void (timer instanceof VirtualTimer && this.#timers.delete(timer));
    Object.assign(globalThis, {
      setTimeout: (run: Run, ms = 1, ...args: unknown[]) => start(() => run(...args), ms),
      setInterval: (run: Run, ms = 1, ...args: unknown[]) => start(() => run(...args), ms, Math.max(1, ms)),
      clearTimeout: clear,
      clearInterval: clear,
    });
    Date.now = () => Math.floor(this.#startedAt.wall + this.#passedMs + this.wallOffsetMs);
    performance.now = () => this.#startedAt.monotonic + this.#passedMs;
    os.uptime = () => this.#startedAt.uptime + this.#passedMs / 1000;
    syncBuiltinESMExports();
  }

  restore(): void {
    const { dateNow, performanceNow, uptime, ...timers } = this.#real;
    Object.assign(globalThis, timers);
    Date.now = dateNow;
    performance.now = performanceNow;
    os.uptime = uptime;
    syncBuiltinESMExports();
  }

  /** Lets time pass timer by timer; the sockets have a few turns of the real event loop after each. */
  async pass(ms: number): Promise<void> {
    const end = this.#passedMs + ms;
    for (;;) {
      await this.#settle();
      const due = [...this.#timers]
        .filter(({ at }) => at <= end)
        .toSorted((one, other) => one.at - other.at || one.order - other.order)[0];
      if (due === undefined) break;
      this.#passedMs = Math.max(this.#passedMs, due.at);
      due.fire();
    }
    this.#passedMs = end;
    await this.#settle();
  }

  /** Passes time in small steps, each with real time for the sockets, until it is so. */
  async until(isDone: () => boolean, stepMs = 20): Promise<void> {
    const passOn = async (): Promise<boolean> => isDone() || (await this.pass(stepMs), false);
    await until(passOn, { what: String(isDone) });
  }

  async #settle(): Promise<void> {
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

class VirtualTimer {
  readonly #timers: Set<VirtualTimer>;
  readonly #run: () => void;
  readonly #everyMs: number | undefined;
  readonly order: number;
  at: number;

  constructor(timers: Set<VirtualTimer>, run: () => void, at: number, everyMs: number | undefined, order: number) {
    this.#timers = timers;
    this.#run = run;
    this.#everyMs = everyMs;
    this.at = at;
    this.order = order;
  }

  fire(): void {
    if (this.#everyMs === undefined) this.#timers.delete(this);
    else this.at += this.#everyMs;
    this.#run();
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }
}
