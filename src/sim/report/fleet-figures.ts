/**
 * What a fleet did: counts, the time from sending a report to its acknowledgement, and one sample a second of the whole.
 * Latencies are kept in buckets 5 % apart, so that memory does not grow with the reports.
 */
export class FleetFigures {
  readonly counts: Record<FleetCount, number> = {
    registrations: 0,
    reports: 0,
    readings: 0,
    queries: 0,
    connectionsLost: 0,
    refused: 0,
    attacks: 0,
    dropped: 0,
  };
  readonly #errors = new Map<string, number>();
  readonly #buckets: number[] = [];
  readonly #samples: FleetSample[] = [];
  readonly #startedAt: number;
  #lastReports = 0;
  #lastErrors = 0;

  constructor(nowMs: number) {
    this.#startedAt = nowMs;
  }

  add(count: FleetCount, amount = 1): void {
    this.counts[count] += amount;
  }

  addError(name: string): void {
    this.#errors.set(name, (this.#errors.get(name) ?? 0) + 1);
  }

  addLatency(ms: number): void {
    const bucket = Math.max(0, Math.ceil(Math.log(Math.max(ms, FIRST_BUCKET_MS) / FIRST_BUCKET_MS) / Math.log(GROWTH)));
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
  }

  /** To be called each second. */
  sample(nowMs: number, devicesUp: number): FleetSample {
    const errors = this.errorsInAll;
    const sample = {
      seconds: Math.round((nowMs - this.#startedAt) / 1000),
      devicesUp,
      reports: this.counts.reports - this.#lastReports,
      errors: errors - this.#lastErrors,
    };
    this.#lastReports = this.counts.reports;
    this.#lastErrors = errors;
    this.#samples.push(sample);
    return sample;
  }

  /** From the first bucket that has any, empty ones between included: equal steps of a logarithmic scale. */
  #histogram(): FleetReport["histogram"] {
    const all = Array.from(this.#buckets, (count: number | undefined, bucket) => ({
      upToMs: Number((FIRST_BUCKET_MS * GROWTH ** bucket).toPrecision(3)),
      count: count ?? 0,
    }));
    return all.slice(
      Math.max(
        0,
        all.findIndex(({ count }) => count > 0),
      ),
    );
  }

  /** The error that came most often, if any did. */
  get mostFrequentError(): string | undefined {
    return [...this.#errors].toSorted(([, a], [, b]) => b - a)[0]?.[0];
  }

  get errorsInAll(): number {
    return [...this.#errors.values()].reduce((sum, count) => sum + count, 0);
  }

  /** The latency in ms that this share (0 to 1) of the reports did not exceed, to 5 %; undefined without reports. */
  latencyMs(share: number): number | undefined {
    const all = this.#buckets.reduce((sum, count) => sum + (count ?? 0), 0);
    let seen = 0;
    for (const [bucket, count] of this.#buckets.entries()) {
      seen += count ?? 0;
      if (seen > 0 && seen >= share * all) return FIRST_BUCKET_MS * GROWTH ** bucket;
    }
    return undefined;
  }

  report(nowMs: number): FleetReport {
    const latency = (share: number): number | null => {
      const ms = this.latencyMs(share);
      return ms === undefined ? null : Number(ms.toPrecision(3));
    };
    return {
      seconds: (nowMs - this.#startedAt) / 1000,
      counts: { ...this.counts },
      errors: Object.fromEntries([...this.#errors].toSorted(([, a], [, b]) => b - a)),
      latencyMs: { p50: latency(0.5), p90: latency(0.9), p99: latency(0.99), max: latency(1) },
      histogram: this.#histogram(),
      samples: this.#samples,
    };
  }
}

export const FLEET_COUNTS = [
  "registrations",
  "reports",
  "readings",
  "queries",
  "connectionsLost",
  "refused",
  "attacks",
  "dropped",
] as const;
export type FleetCount = (typeof FLEET_COUNTS)[number];

/** One second of the fleet: how many devices are registered, and what happened since the sample before. */
export interface FleetSample {
  readonly seconds: number;
  readonly devicesUp: number;
  readonly reports: number;
  readonly errors: number;
}

/** The whole run, as `--json` writes it. */
export interface FleetReport {
  readonly seconds: number;
  readonly counts: Readonly<Record<FleetCount, number>>;
  /** By code, the most frequent first. */
  readonly errors: Readonly<Record<string, number>>;
  readonly latencyMs: Readonly<Record<"p50" | "p90" | "p99" | "max", number | null>>;
  readonly histogram: readonly { readonly upToMs: number; readonly count: number }[];
  readonly samples: readonly FleetSample[];
}

const FIRST_BUCKET_MS = 0.1;
const GROWTH = 1.05;
