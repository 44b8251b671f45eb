import type { AuditEntry, AuditFields, AuditLimits, AuditPage, AuditSource } from "./audit-log.js";
import type { Backend, Space } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { timeOfKey } from "./time-key.js";

/** Audit events of one kind of source, bounded in number and rate: see {@link AuditLog}. */
export class AuditShare {
  readonly #backend: Backend;
  readonly #space: Space;
  readonly #limits: AuditLimits;
  /** Of each source of late what it may still write, in order of use. */
  readonly #buckets = new Map<string, Bucket>();
  #written = 0;
  #secondStartedAt = 0;
  #inSecond = 0;
  /** What was not written since that was told, by source. */
  #suppressed = new Map<string | undefined, number>();
  #toldAt = -Infinity;

  constructor(backend: Backend, space: Space, limits: AuditLimits) {
    this.#backend = backend;
    this.#space = space;
    this.#limits = limits;
  }

  /** `nextKey` is called for each event that is written. @throws StoreError. */
  async append(event: AuditFields, now: number, { name }: AuditSource, nextKey: () => string): Promise<void> {
    if (now - this.#secondStartedAt >= 1000 || now < this.#secondStartedAt) {
      this.#secondStartedAt = now;
      this.#inSecond = 0;
      const isDue = now - this.#toldAt >= TELL_EVERY_MS || now < this.#toldAt;
      if (isDue && this.#suppressed.size > 0) {
        this.#toldAt = now;
        const told = toldOf(this.#suppressed);
        this.#suppressed = new Map();
        await this.#write(told, nextKey());
      }
    }
    if (this.#inSecond < this.#limits.maxPerSecond && (name === undefined || this.#take(name, now))) {
      this.#inSecond += 1;
      await this.#write(event, nextKey());
      return;
    }
    const from = this.#suppressed.has(name) || this.#suppressed.size < MAX_SUPPRESSED_SOURCES ? name : undefined;
    this.#suppressed.set(from, (this.#suppressed.get(from) ?? 0) + 1);
  }

  /** Those that match, the newest first. */
  async newest({ before, limit, type, endpoint, subscriber }: AuditPage): Promise<readonly AuditEntry[]> {
    const found: AuditEntry[] = [];
    for (let bound = before; found.length < limit;) {
      const entries = await this.#backend.range(this.#space, "", {
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

  /** A token bucket of each source. */
  #take(name: string, now: number): boolean {
    const { level, at } = this.#buckets.get(name) ?? { level: SOURCE_BURST, at: now };
    // A clock that was set back refills nothing, and takes nothing.
    const filled = Math.min(SOURCE_BURST, level + Math.max(0, now - at) / SOURCE_REFILL_MS);
    this.#buckets.delete(name);
    this.#buckets.set(name, { level: filled >= 1 ? filled - 1 : filled, at: now });
    for (const oldest of this.#buckets.keys()) {
      if (this.#buckets.size <= MAX_BUCKETS) break;
      this.#buckets.delete(oldest);
    }
    return filled >= 1;
  }

  async #write(event: AuditFields, key: string): Promise<void> {
    this.#written += 1;
    const space = this.#space;
    const excess = this.#written % TRIM_EVERY === 0 ? (await this.#backend.count(space)) - this.#limits.maxEvents : 0;
    const oldest = excess > 0 ? await this.#backend.range(space, "", { limit: excess }) : [];
    await this.#backend.commit({
      deletes: oldest.map((entry) => ({ space, partition: "", key: entry.key })),
      sets: [{ space, partition: "", key, value: encodeRow(event) }],
    });
  }
}

interface Bucket {
  readonly level: number;
  readonly at: number;
}

/** How many, and of whom the most. */
function toldOf(suppressed: ReadonlyMap<string | undefined, number>): AuditFields {
  const named = [...suppressed].filter(([name]) => name !== undefined);
  const [peer, most = 0] = named.toSorted(([, a], [, b]) => b - a)[0] ?? [];
  const count = [...suppressed.values()].reduce((sum, one) => sum + one, 0);
  if (peer === undefined) return { type: "suppressed", count };
  return { type: "suppressed", count, peer, ...(most === count ? {} : { detail: `${most} of ${peer}` }) };
}

/** An address fails so often at once, and then so often, before it is told of in numbers only. As `FailureLimits` has it. */
const SOURCE_BURST = 50;
const SOURCE_REFILL_MS = 5000;
/** Of about 150 bytes each. */
const MAX_BUCKETS = 20_000;
const MAX_SUPPRESSED_SOURCES = 1000;
const TELL_EVERY_MS = 60_000;
/** A1 */
const TRIM_EVERY = 10;
const READ_PAGE = 500;
