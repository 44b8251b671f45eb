import { codeOf } from "#errors/index.js";
import type { SenmlValue } from "#senml/index.js";
import type { ClockStamp, KnownTime } from "./device-clock.js";

/**
 * The readings that the server has not acknowledged, oldest first, within a bound, and their copy on disk.
 *
 * Invariants:
 * 1. A reading leaves only when the server has acknowledged it, or when the bound drops it, which is counted.
 * 2. What is in memory is never less than what is on disk: a failing disk loses nothing while the agent runs.
 * 3. After a restart it holds everything whose writing to disk had ended. What is added while nothing else waits is written
 *    when it has waited for `WRITE_AFTER_MS`, or with the next; all else at once. So a memory card is not written to while
 *    the server acknowledges everything, and what a cut of the power can lose is what was on its way.
 */
export class Outbox {
  readonly #limits: OutboxLimits;
  readonly #store: OutboxStore | undefined;
  readonly #onFault: (error: unknown) => void;
  readonly #onRecovered: () => void;
  /** What the disk said last, until it takes changes again. */
  #fault: string | undefined;
  /** By id, which grows: the first is the oldest. */
  readonly #readings = new Map<number, QueuedReading>();
  readonly #byImportance: Readonly<Record<Importance, Set<number>>> = {
    low: new Set(),
    normal: new Set(),
    high: new Set(),
  };
  /** Of `#readings`, what is not to be written yet. */
  readonly #held = new Map<number, QueuedReading>();
  #holding: NodeJS.Timeout | undefined;
  #nextId = 0;
  #dropped = 0;
  #wake: (() => void) | undefined;

  constructor(options: OutboxOptions = {}) {
    this.#limits = { ...DEFAULT_OUTBOX_LIMITS, ...options.limits };
    this.#store = options.store;
    this.#onFault = options.onFault ?? (() => undefined);
    this.#onRecovered = options.onRecovered ?? (() => undefined);
    for (const [id, reading] of this.#store?.load() ?? []) {
      this.#keep(id, reading);
      this.#nextId = Math.max(this.#nextId, id + 1);
    }
  }

  get size(): number {
    return this.#readings.size;
  }

  /** Readings that the bound has dropped since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  add(readings: readonly QueuedReading[]): void {
    if (readings.length === 0) return;
    const isAlone = this.#readings.size === 0;
    for (const reading of readings) {
      const id = this.#nextId++;
      this.#keep(id, reading);
      this.#held.set(id, reading);
    }
    const removed: number[] = [];
    while (this.#readings.size > this.#limits.maxReadings) {
      const id = this.#victim();
      if (id === undefined) break;
      this.#forget(id);
      if (!this.#held.delete(id)) removed.push(id);
      this.#dropped += 1;
    }
    clearTimeout(this.#holding);
    if (isAlone) this.#holding = setTimeout(() => this.#writeHeld(), WRITE_AFTER_MS).unref();
    else this.#writeHeld(removed);
    this.#wake?.();
  }

  /** Up to `count` of the oldest, with the ids to remove them by. */
  oldest(count: number): readonly (readonly [number, QueuedReading])[] {
    const found: (readonly [number, QueuedReading])[] = [];
    for (const entry of this.#readings) {
      if (found.length >= count) break;
      found.push(entry);
    }
    return found;
  }

  /** Forgets what was acknowledged. */
  remove(ids: readonly number[]): void {
    for (const id of ids) this.#forget(id);
    const written = ids.filter((id) => !this.#held.delete(id));
    if (written.length > 0) this.#write((store) => store.change([], written));
  }

  /** What must be known to date these readings after a restart. */
  rememberTime(known: KnownTime): void {
    this.#write((store) => store.rememberTime(known));
  }

  /** Fulfilled when there is something to send, or when `signal` is aborted. */
  async nonEmpty(signal: AbortSignal): Promise<void> {
    if (this.#readings.size > 0 || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#wake = undefined;
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#wake = done;
      signal.addEventListener("abort", done, { once: true });
    });
  }

  /** Waits until the disk has everything. */
  async close(): Promise<void> {
    this.#writeHeld();
    await this.#store?.close().catch((error: unknown) => this.#failed(error));
  }

  #keep(id: number, reading: QueuedReading): void {
    this.#readings.set(id, reading);
    this.#byImportance[reading.importance].add(id);
  }

  #forget(id: number): void {
    const reading = this.#readings.get(id);
    if (reading === undefined) return;
    this.#readings.delete(id);
    this.#byImportance[reading.importance].delete(id);
  }

  /** The oldest, or the oldest of the least important ones. */
  #victim(): number | undefined {
    const { low, normal, high } = this.#byImportance;
    const candidates: Iterable<number>[] =
      this.#limits.dropFirst === "oldest" ? [this.#readings.keys()] : [low, normal, high];
    for (const ids of candidates) for (const id of ids) return id;
    return undefined;
  }

  #writeHeld(removed: readonly number[] = []): void {
    clearTimeout(this.#holding);
    const added = [...this.#held];
    this.#held.clear();
    if (added.length > 0 || removed.length > 0) this.#write((store) => store.change(added, removed));
  }

  #write(change: (store: OutboxStore) => Promise<void>): void {
    if (this.#store === undefined) return;
    change(this.#store).then(
      () => this.#succeeded(),
      (error: unknown) => this.#failed(error),
    );
  }

  #succeeded(): void {
    if (this.#fault === undefined) return;
    this.#fault = undefined;
    this.#onRecovered();
  }

  #failed(error: unknown): void {
    const fault = codeOf(error) ?? String(error);
    if (this.#fault === fault) return;
    this.#fault = fault;
    this.#onFault(error);
  }
}

/** A server that is reached has acknowledged by then. */
const WRITE_AFTER_MS = 2000;

/** A reading as it waits: with both clocks, since the wall clock may have been wrong. */
export interface QueuedReading {
  readonly name: string;
  readonly unit?: string;
  readonly value: SenmlValue;
  readonly importance: Importance;
  readonly stamp: ClockStamp;
  /** The longest time until the next report of it, in seconds. */
  readonly updateTimeSeconds?: number;
}

export const IMPORTANCES = ["low", "normal", "high"] as const;
export type Importance = (typeof IMPORTANCES)[number];

/** The copy on disk. Each promise is fulfilled when the change would survive a loss of power. */
export interface OutboxStore {
  /** In the order of ids. */
  load(): Iterable<readonly [number, QueuedReading]>;
  knownTime(): KnownTime;
  change(added: readonly (readonly [number, QueuedReading])[], removed: readonly number[]): Promise<void>;
  rememberTime(known: KnownTime): Promise<void>;
  close(): Promise<void>;
}

export interface OutboxLimits {
  /** Default 20,000 readings, about 6 MB of memory; beyond it the queue drops. */
  readonly maxReadings: number;
  /** Default `oldest`. `leastImportant`: the oldest of the least importance that is there. */
  readonly dropFirst: "oldest" | "leastImportant";
}

export const DEFAULT_OUTBOX_LIMITS: OutboxLimits = { maxReadings: 20_000, dropFirst: "oldest" };

export interface OutboxOptions {
  readonly limits?: Partial<OutboxLimits>;
  /** Default: none, readings wait in memory only. */
  readonly store?: OutboxStore;
  /** Told when the disk fails, once until it fails in another way; the queue goes on in memory. */
  readonly onFault?: (error: unknown) => void;
  /** Told when it takes changes again: it has everything by then. */
  readonly onRecovered?: () => void;
}
