/**
 * Tells when a reading was taken, on a device whose wall clock may be wrong: a Raspberry Pi has none that runs without
 * power. Each reading carries both clocks; only the one that counts since boot is trusted always.
 *
 * Invariants:
 * 1. A reading of this boot is dated by the boot clock and one offset to wall time, so that its date is the same each time
 *    it is asked for, and is right from the moment on at which the wall clock is.
 * 2. Without a trusted wall clock its time is relative to now, for the server to resolve (RFC 8428 §4.5.3).
 * 3. A reading of an earlier boot is dated by the last offset known of that boot, or else by the wall clock it was taken with.
 */
export class DeviceClock {
  readonly #source: ClockSource;
  readonly #offsets: Map<string, number>;
  /** No later moment was ever trusted; a wall clock before it was set back. Wall ms. */
  #latestTrustedMs: number;
  #lastUptimeMs = 0;
  #isTrusted = true;

  constructor(source: ClockSource, known: KnownTime = {}) {
    this.#source = source;
    this.#offsets = new Map(Object.entries(known.offsetsMs ?? {}));
    this.#latestTrustedMs = Math.max(known.latestTrustedMs ?? 0, EARLIEST_TRUE_TIME_MS);
  }

  /** Both clocks now; never the same twice, since a server tells two readings of a property apart by their time. */
  stamp(): ClockStamp {
    const { bootId } = this.#source;
    this.#lastUptimeMs = Math.max(Math.floor(this.#source.uptimeMs()), this.#lastUptimeMs + 1);
    return { bootId, uptimeMs: this.#lastUptimeMs, wallMs: this.#source.wallMs() };
  }

  /**
   * Looks at the wall clock, and learns the offset of this boot when it can be trusted. Returns whether something was
   * learned that is worth keeping over a restart.
   */
  learn(): boolean {
    const { bootId } = this.#source;
    const [uptimeMs, wallMs] = [this.#source.uptimeMs(), this.#source.wallMs()];
    this.#isTrusted = this.#source.isSynchronized() || wallMs >= this.#latestTrustedMs - TOLERATED_STEP_BACK_MS;
    if (!this.#isTrusted) return false;
    const offset = wallMs - uptimeMs;
    const known = this.#offsets.get(bootId);
    const isNews = known === undefined || Math.abs(known - offset) > TOLERATED_DRIFT_MS;
    if (isNews) {
      this.#offsets.set(bootId, Math.round(offset));
      while (this.#offsets.size > MAX_BOOTS) this.#offsets.delete([...this.#offsets.keys()][0] ?? "");
    }
    const isLater = wallMs > this.#latestTrustedMs + PERSIST_STEP_MS;
    if (isNews || isLater) this.#latestTrustedMs = wallMs;
    return isNews || isLater;
  }

  /** Whether the wall clock was believed when it was looked at last. */
  get isTrusted(): boolean {
    return this.#isTrusted;
  }

  /** SenML time of a reading: seconds since 1970, or below 2^28 and relative to now. */
  timeSeconds(stamp: ClockStamp): number {
    const offset = this.#offsets.get(stamp.bootId);
    if (offset !== undefined) return Math.round(stamp.uptimeMs + offset) / 1000;
    if (stamp.bootId !== this.#source.bootId) return Math.round(stamp.wallMs) / 1000;
    // Never positive: a reading is not of the future.
    return Math.min(0, Math.round(stamp.uptimeMs - this.#source.uptimeMs()) / 1000);
  }

  /** What is to be kept over a restart. */
  known(): KnownTime {
    return { offsetsMs: Object.fromEntries(this.#offsets), latestTrustedMs: this.#latestTrustedMs };
  }
}

/** Where a clock's readings come from. */
export interface ClockSource {
  /** Changes with each boot of the device. */
  readonly bootId: string;
  /** Ms since boot; goes on while the device sleeps. */
  uptimeMs(): number;
  /** Ms since 1970, as the device believes. */
  wallMs(): number;
  /** Whether the system says that its wall clock was set by a time service. */
  isSynchronized(): boolean;
}

/** When something was read. */
export interface ClockStamp {
  readonly bootId: string;
  readonly uptimeMs: number;
  readonly wallMs: number;
}

export interface KnownTime {
  /** Wall time minus time since boot, by boot. */
  readonly offsetsMs?: Readonly<Record<string, number>>;
  readonly latestTrustedMs?: number;
}

/** This program is younger than that: a clock which shows an earlier time was never set. 2026-01-01. */
const EARLIEST_TRUE_TIME_MS = Date.UTC(2026, 0, 1);
/** A time service may step back that far without being distrusted. */
const TOLERATED_STEP_BACK_MS = 5 * 60_000;
/** Below it the offset stays, so that a reading keeps its date however often it is sent. */
const TOLERATED_DRIFT_MS = 2000;
const PERSIST_STEP_MS = 10 * 60_000;
const MAX_BOOTS = 16;
