import { AuditShare } from "./audit-share.js";
import type { Backend } from "./backend.js";
import { timeKey } from "./time-key.js";

/**
 * What happened, newest last: authentication errors with their causes, changes by operators. `audit`, and `unproven` what
 * anybody could cause: key time, a number and server.
 *
 * Invariants:
 * A1. Each share keeps half of `maxEvents`, and for a moment ten more; its own oldest make way.
 * A2. A flood does not become a flood of writes: above `maxPerSecond` of a share, and above the rate of its source, events are
 *     counted, and told of in one event a minute.
 * A3. What nobody authenticated takes no place from what was authenticated, and one source few from others.
 */
export class AuditLog {
  readonly #server: string;
  readonly #proven: AuditShare;
  readonly #unproven: AuditShare;
  #serial = 0;

  constructor(backend: Backend, server: string, limits: AuditLimits) {
    const half = { ...limits, maxEvents: Math.ceil(limits.maxEvents / 2) };
    this.#server = server;
    this.#proven = new AuditShare(backend, "audit", half);
    this.#unproven = new AuditShare(backend, "unproven", half);
  }

  /** @throws StoreError. */
  append(event: AuditFields, now: number, source: AuditSource = OPERATOR): Promise<void> {
    const share = source.isProven ? this.#proven : this.#unproven;
    return share.append(event, now, source, () => this.#key(now));
  }

  /** The newest first; `before` is the key of the last one seen. */
  async page(page: AuditPage): Promise<readonly AuditEntry[]> {
    const found = await Promise.all([this.#proven.newest(page), this.#unproven.newest(page)]);
    return found
      .flat()
      .toSorted((a, b) => (a.key < b.key ? 1 : -1))
      .slice(0, page.limit);
  }

  #key(now: number): string {
    this.#serial += 1;
    return `${timeKey(now)}.${String(this.#serial).padStart(9, "0")}.${this.#server}`;
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

/** Who caused an event. */
export interface AuditSource {
  /** Whether it was authenticated. */
  readonly isProven: boolean;
  /** A subscriber, or an address as far as one can tell; undefined: an operator, who has no rate but the share's. */
  readonly name: string | undefined;
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

const OPERATOR: AuditSource = { isProven: true, name: undefined };
