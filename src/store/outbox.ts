import type { SenmlRecord } from "#senml/index.js";
import type { Backend, PlacedEntry } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";

/**
 * Readings that are still to be forwarded, in the order in which they were taken. `outbox`: key time and server.
 *
 * Invariants:
 * O1. An entry is written in the same change as the readings in it, and removed only when it was forwarded or, above
 *     `maxEntries`, to make room: the oldest first.
 * O2. One server at a time forwards: it holds a lease, which ends by itself when that server does.
 */
export class Outbox {
  readonly #backend: Backend;
  readonly #maxEntries: number;

  constructor(backend: Backend, maxEntries: number) {
    this.#backend = backend;
    this.#maxEntries = maxEntries;
  }

  count(): Promise<number> {
    return this.#backend.count("outbox");
  }

  /** The oldest entries, of those after a key where one is given. */
  async next(limit: number, after?: string): Promise<readonly OutboxEntry[]> {
    const entries = await this.#backend.range("outbox", "", { limit, ...(after === undefined ? {} : { after }) });
    return entries.map(({ key, value }) => ({ key, ...decodeRow<OutboxRow>(value) }));
  }

  async forwarded(keys: readonly string[]): Promise<void> {
    await this.#backend.commit({ deletes: keys.map((key) => ({ space: "outbox", partition: "", key })) });
  }

  /** Drops the oldest above the bound; returns how many. */
  async trim(): Promise<number> {
    const excess = (await this.count()) - this.#maxEntries;
    if (excess <= 0) return 0;
    const oldest = await this.#backend.range("outbox", "", { limit: Math.min(excess, TRIM_PAGE) });
    await this.forwarded(oldest.map(({ key }) => key));
    return oldest.length;
  }

  /** Takes or renews the lease; true while this server holds it. */
  lease(server: string, now: number, forMs: number): Promise<boolean> {
    const place = { space: "meta", partition: "", key: "outbox-lease" } as const;
    return commitUntil(this.#backend, async () => {
      const [bytes] = await this.#backend.get([place]);
      const held =
        bytes === undefined ? undefined : decodeRow<{ readonly server: string; readonly until: number }>(bytes);
      const leftMs = (held?.until ?? now) - now;
      // One that would last longer than any does was taken before a clock was set back.
      if (held?.server !== server && leftMs > 0 && leftMs <= forMs + MAX_SKEW_MS)
        return { change: undefined, result: false };
      const value = encodeRow({ server, until: now + forMs });
      return { change: { checks: [{ ...place, value: bytes }], sets: [{ ...place, value }] }, result: true };
    });
  }
}

export interface OutboxEntry extends OutboxRow {
  readonly key: string;
}

interface OutboxRow {
  readonly endpoint: string;
  readonly records: readonly SenmlRecord[];
}

export function planOutbox(endpoint: string, records: readonly SenmlRecord[], key: string): PlacedEntry {
  const row: OutboxRow = { endpoint, records };
  return { space: "outbox", partition: "", key, value: encodeRow(row) };
}

const TRIM_PAGE = 1000;
/** By how much the clocks of servers may differ. */
const MAX_SKEW_MS = 60_000;
