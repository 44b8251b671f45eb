import type { Backend } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { timeKey, timeOfKey } from "./time-key.js";

/**
 * What happened, newest last: authentication errors with their causes, changes by operators. `audit`: key time, server and
 * a number.
 *
 * Invariants:
 * A1. At most a tenth more than `maxEvents` are kept; the oldest make way.
 * A2. A flood does not become a flood of writes: above `maxPerSecond` events are counted, and told of in one event.
 */
export class AuditLog {
  readonly #backend: Backend;
  readonly #server: string;
  readonly #limits: AuditLimits;
  #serial = 0;
  #secondStartedAt = 0;
  #inSecond = 0;
  #suppressed = 0;

  constructor(backend: Backend, server: string, limits: AuditLimits) {
    this.#backend = backend;
    this.#server = server;
    this.#limits = limits;
  }

  /** @throws StoreError. */
  async append(event: AuditFields, now: number): Promise<void> {
    if (now - this.#secondStartedAt >= 1000 || now < this.#secondStartedAt) {
      const suppressed = this.#suppressed;
      this.#secondStartedAt = now;
      this.#inSecond = 0;
      this.#suppressed = 0;
      if (suppressed > 0) await this.#write({ type: "suppressed", count: suppressed }, now);
    }
    this.#inSecond += 1;
    if (this.#inSecond > this.#limits.maxPerSecond) this.#suppressed += 1;
    else await this.#write(event, now);
  }

  /** The newest first; `before` is the key of the last one seen. */
  async page({ before, limit, type, endpoint, subscriber }: AuditPage): Promise<readonly AuditEntry[]> {
    const found: AuditEntry[] = [];
    for (let bound = before; found.length < limit;) {
      const entries = await this.#backend.range("audit", "", {
        ...(bound === undefined ? {} : { before: bound }),
        limit: READ_PAGE,
        isReverse: true,
      });
      for (const { key, value } of entries) {
        const event = decodeRow<AuditFields>(value);
        const isWanted =
          (type === undefined || event.type === type) &&
          (endpoint === undefined || event["endpoint"] === endpoint) &&
          (subscriber === undefined || event["subscriber"] === subscriber);
        if (isWanted && found.length < limit) found.push({ key, at: timeOfKey(key), event });
      }
      bound = entries.at(-1)?.key;
      if (entries.length < READ_PAGE) break;
    }
    return found;
  }

  async #write(event: AuditFields, now: number): Promise<void> {
    this.#serial += 1;
    const key = `${timeKey(now)}.${String(this.#serial).padStart(9, "0")}.${this.#server}`;
    const { maxEvents } = this.#limits;
    const excess = this.#serial % TRIM_EVERY === 0 ? (await this.#backend.count("audit")) - maxEvents : 0;
    const oldest = excess > 0 ? await this.#backend.range("audit", "", { limit: excess }) : [];
    await this.#backend.commit({
      deletes: oldest.map((entry) => ({ space: "audit", partition: "", key: entry.key })),
      sets: [{ space: "audit", partition: "", key, value: encodeRow(event) }],
    });
  }
}

/** Plain data; `type` says which event it is. */
export interface AuditFields {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface AuditEntry {
  readonly key: string;
  /** ms since 1970. */
  readonly at: number;
  readonly event: AuditFields;
}

export interface AuditLimits {
  /** Default 10,000. */
  readonly maxEvents: number;
  /** Default 100; more tells no more, and wears out the disk. */
  readonly maxPerSecond: number;
}

export interface AuditPage {
  readonly before?: string;
  readonly limit: number;
  readonly type?: string;
  readonly endpoint?: string;
  readonly subscriber?: string;
}

/** Divides the least `maxEvents` allowed by ten, so that A1 holds. */
const TRIM_EVERY = 10;
const READ_PAGE = 500;
