import type { AuditEvent } from "./audit-event.js";

/** The newest authentications, and counts of all. Bounded: the oldest make way, of failures and successes each for their own. */
export class AuditTrail {
  readonly #maxOfEach: number;
  /** Of each outcome by its number among those, modulo their bound. */
  readonly #recorded: Readonly<Record<AuditEvent["outcome"], Recorded[]>> = { success: [], failure: [] };
  readonly #counts = new Map<string, number>();
  readonly #next = { success: 0, failure: 0 };
  #order = 0;

  /** Default 1,000 events, of about 500 bytes each, half of them failures. */
  constructor(maxEvents: number = DEFAULT_MAX_AUDIT_EVENTS) {
    this.#maxOfEach = Math.ceil(maxEvents / 2);
  }

  record(event: AuditEvent): void {
    const { outcome } = event;
    this.#recorded[outcome][this.#next[outcome]] = { event, order: this.#order++ };
    this.#next[outcome] = (this.#next[outcome] + 1) % this.#maxOfEach;
    const key = `${event.interface} ${event.outcome} ${event.cause}`;
    const known = this.#counts.get(key);
    if (known !== undefined || this.#counts.size < MAX_CAUSES) this.#counts.set(key, (known ?? 0) + 1);
  }

  /** Those that match, newest first. */
  list(filter: AuditFilter = {}): readonly AuditEvent[] {
    const { limit = Infinity, sinceMs = -Infinity, ...fields } = filter;
    const wanted = Object.entries(fields).filter(([, value]) => value !== undefined) as [keyof AuditEvent, unknown][];
    return [...this.#recorded.success, ...this.#recorded.failure]
      .toSorted((a, b) => b.order - a.order)
      .map(({ event }) => event)
      .filter((event) => event.time >= sinceMs && wanted.every(([name, value]) => event[name] === value))
      .slice(0, limit);
  }

  /** How many there were of each interface, outcome and cause since the start, as `dpe1 failure invalid-credentials`. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }
}

interface Recorded {
  readonly event: AuditEvent;
  readonly order: number;
}

export interface AuditFilter {
  readonly outcome?: AuditEvent["outcome"] | undefined;
  readonly interface?: AuditEvent["interface"] | undefined;
  readonly subscriber?: string | undefined;
  readonly cause?: string | undefined;
  readonly peer?: string | undefined;
  /** Milliseconds since 1970. */
  readonly sinceMs?: number;
  readonly limit?: number;
}

export const DEFAULT_MAX_AUDIT_EVENTS = 1000;
/** Causes come from our own tables; the bound is for what is not foreseen. */
const MAX_CAUSES = 256;
