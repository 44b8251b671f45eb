import type { AuditEvent } from "./audit-event.js";

/** The newest authentications, and counts of all. Bounded: the oldest make way. */
export class AuditTrail {
  readonly #maxEvents: number;
  readonly #events: AuditEvent[] = [];
  readonly #counts = new Map<string, number>();
  #next = 0;

  /** Default 1,000 events, of about 500 bytes each. */
  constructor(maxEvents: number = DEFAULT_MAX_AUDIT_EVENTS) {
    this.#maxEvents = maxEvents;
  }

  record(event: AuditEvent): void {
    this.#events[this.#next] = event;
    this.#next = (this.#next + 1) % this.#maxEvents;
    const key = `${event.interface} ${event.outcome} ${event.cause}`;
    const known = this.#counts.get(key);
    if (known !== undefined || this.#counts.size < MAX_CAUSES) this.#counts.set(key, (known ?? 0) + 1);
  }

  /** Those that match, newest first. */
  list(filter: AuditFilter = {}): readonly AuditEvent[] {
    const { limit = Infinity, sinceMs = -Infinity, ...fields } = filter;
    const wanted = Object.entries(fields).filter(([, value]) => value !== undefined) as [keyof AuditEvent, unknown][];
    const ordered = [...this.#events.slice(this.#next), ...this.#events.slice(0, this.#next)].toReversed();
    return ordered
      .filter((event) => event.time >= sinceMs && wanted.every(([name, value]) => event[name] === value))
      .slice(0, limit);
  }

  /** How many there were of each interface, outcome and cause since the start, as `dpe1 failure invalid-credentials`. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }
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
