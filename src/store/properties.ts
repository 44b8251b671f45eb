import { DpeError } from "#dpe/index.js";
import type { SenmlRecord } from "#senml/index.js";
import type { Backend, Change, Check, Place, PlacedEntry } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { timeKey, timeOfKey } from "./time-key.js";

/**
 * The properties of the endpoints: the latest value of each, and its history.
 *
 * `latest`: partition endpoint, key name, a {@link LatestRow}. `history`: partition `endpoint NUL name`, key time, a value.
 *
 * Invariants:
 * P1. A reading is one entry of history, found by endpoint, name and time: sent twice it is kept once.
 * P2. `latest` has the reading with the greatest time of all that were reported; a late one never replaces a newer one.
 * P3. History is in the order of the readings' times, whatever the order of arrival.
 * P4. No more than `maxValues` are given, and none older than `maxAgeMs`; no more than a tenth above `maxValues` is kept,
 *     the newest. `count` of the latest row is what is kept.
 * P5. An endpoint has at most `maxProperties` properties; a report that would exceed that is refused whole.
 */
export class Properties {
  readonly #backend: Backend;
  readonly #limits: PropertyLimits;

  constructor(backend: Backend, limits: PropertyLimits) {
    this.#backend = backend;
    this.#limits = limits;
  }

  /** By name, sorted. */
  async latest(endpoint: string): Promise<readonly SenmlRecord[]> {
    const entries = await this.#backend.range("latest", endpoint, { limit: Infinity });
    return entries.map(({ value }) => decodeRow<LatestRow>(value).record);
  }

  /** The latest of these, of those that exist. */
  async latestOf(endpoint: string, names: readonly string[]): Promise<readonly SenmlRecord[]> {
    const values = await this.#backend.get(names.map((key) => ({ space: "latest", partition: endpoint, key })));
    return values.flatMap((value) => (value === undefined ? [] : [decodeRow<LatestRow>(value).record]));
  }

  /** Readings in the order of time, the newest `limit` of them; times in seconds, `fromSeconds` included, `untilSeconds` not. */
  async history(endpoint: string, name: string, query: HistoryQuery, nowMs: number): Promise<readonly SenmlRecord[]> {
    const { maxValues, maxAgeMs } = this.#limits;
    const fromSeconds = Math.max(query.fromSeconds ?? -Infinity, (nowMs - maxAgeMs) / 1000);
    const limit = Math.min(query.limit ?? maxValues, maxValues);
    const entries = await this.#backend.range("history", historyOf(endpoint, name), {
      from: timeKey(fromSeconds),
      ...(query.untilSeconds === undefined ? {} : { before: timeKey(query.untilSeconds) }),
      limit,
      isReverse: true,
    });
    return entries
      .map(({ key, value }): SenmlRecord => ({ name, ...decodeRow<HistoryRow>(value), timeSeconds: timeOfKey(key) }))
      .toReversed();
  }

  /**
   * What a report changes, as part of a change with more in it.
   *
   * @throws DpeError DPE_TOO_MANY_PROPERTIES.
   */
  async plan(endpoint: string, records: readonly SenmlRecord[], nowMs: number): Promise<PlannedReport> {
    const byName = new Map<string, Map<string, SenmlRecord>>();
    for (const record of records) {
      const dated = { ...record, timeSeconds: record.timeSeconds ?? nowMs / 1000 };
      let ofName = byName.get(record.name);
      if (ofName === undefined) byName.set(record.name, (ofName = new Map<string, SenmlRecord>()));
      ofName.set(timeKey(dated.timeSeconds), dated);
    }
    const names = [...byName.keys()];
    const known = await this.#backend.get(names.map((name) => latestPlace(endpoint, name)));
    const rows = known.map((value) => (value === undefined ? undefined : decodeRow<LatestRow>(value)));
    if (rows.includes(undefined)) await this.#checkCount(endpoint, rows.filter((row) => row === undefined).length);

    const plan = {
      checks: [] as Check[],
      sets: [] as PlacedEntry[],
      deletes: [] as Place[],
      added: [] as SenmlRecord[],
    };
    await Promise.all(
      names.map(async (name, index) => {
        const row = rows[index];
        const added = await this.#unknown(endpoint, name, byName.get(name) ?? new Map<string, SenmlRecord>(), row);
        if (added.length === 0) return;
        const place = latestPlace(endpoint, name);
        plan.checks.push({ ...place, value: known[index] });
        for (const record of added) plan.sets.push(historyEntry(endpoint, record));
        plan.added.push(...added);
        const newest = added.reduce((one, other) => ((other.timeSeconds ?? 0) >= (one.timeSeconds ?? 0) ? other : one));
        const record = row !== undefined && isLater(row.record, newest) ? row.record : newest;
        let count = (row?.count ?? 0) + added.length;
        const excess = await this.#excess(endpoint, name, count, added, nowMs);
        plan.deletes.push(...excess.places);
        count -= excess.places.length;
        // A reading that is older than all that are kept, while there is no room, was never there.
        plan.sets = plan.sets.filter((entry) => !excess.keys.has(`${entry.partition}\0${entry.key}`));
        count -= excess.keys.size;
        const latest: LatestRow = { record, count };
        plan.sets.push({ ...place, value: encodeRow(latest) });
      }),
    );
    return plan;
  }

  /** What forgets all of an endpoint. */
  async planForget(endpoint: string): Promise<Required<Pick<Change, "clears">>> {
    const entries = await this.#backend.range("latest", endpoint, { limit: Infinity });
    const histories = entries.map(({ key }) => ({ space: "history" as const, partition: historyOf(endpoint, key) }));
    return { clears: [{ space: "latest", partition: endpoint }, ...histories] };
  }

  /** Those of one name that are not in history yet, in the order of time. Newer than the latest, they cannot be. */
  async #unknown(
    endpoint: string,
    name: string,
    given: ReadonlyMap<string, SenmlRecord>,
    row: LatestRow | undefined,
  ): Promise<readonly SenmlRecord[]> {
    const inOrder = [...given].toSorted(([one], [other]) => (one < other ? -1 : 1));
    if (row === undefined) return inOrder.map(([, record]) => record);
    const late = inOrder.filter(([, record]) => !isLater(record, row.record));
    if (late.length === 0) return inOrder.map(([, record]) => record);
    const partition = historyOf(endpoint, name);
    const found = await this.#backend.get(late.map(([key]) => ({ space: "history", partition, key })));
    const duplicates = new Set(late.flatMap(([key], index) => (found[index] === undefined ? [] : [key])));
    return inOrder.flatMap(([key, record]) => (duplicates.has(key) ? [] : [record]));
  }

  /** What must go, the oldest first, once more than a tenth is too much or the series has aged. */
  async #excess(
    endpoint: string,
    name: string,
    count: number,
    added: readonly SenmlRecord[],
    nowMs: number,
  ): Promise<{ readonly places: readonly Place[]; readonly keys: ReadonlySet<string> }> {
    const { maxValues, maxAgeMs } = this.#limits;
    const isTooMany = count > maxValues + Math.max(1, Math.floor(maxValues / 10));
    if (!isTooMany && count % AGE_CHECK_EVERY !== 0) return { places: [], keys: new Set() };
    const partition = historyOf(endpoint, name);
    const oldest = timeKey((nowMs - maxAgeMs) / 1000);
    const kept = await this.#backend.range("history", partition, {
      limit: isTooMany ? count - maxValues : MAX_AGED,
      ...(isTooMany ? {} : { before: oldest }),
    });
    if (!isTooMany) return { places: kept.map(({ key }) => ({ space: "history", partition, key })), keys: new Set() };
    const all = [
      ...kept.map(({ key }) => ({ key, isNew: false })),
      ...added.map((record) => ({ key: timeKey(record.timeSeconds ?? 0), isNew: true })),
    ]
      .toSorted((one, other) => (one.key < other.key ? -1 : 1))
      .slice(0, count - maxValues);
    return {
      places: all.filter(({ isNew }) => !isNew).map(({ key }) => ({ space: "history", partition, key })),
      keys: new Set(all.filter(({ isNew }) => isNew).map(({ key }) => `${partition}\0${key}`)),
    };
  }

  async #checkCount(endpoint: string, added: number): Promise<void> {
    const { maxProperties } = this.#limits;
    const kept = await this.#backend.range("latest", endpoint, { limit: maxProperties });
    if (kept.length + added > maxProperties)
      throw new DpeError("DPE_TOO_MANY_PROPERTIES", `an endpoint has at most ${maxProperties} properties`);
  }
}

export interface PropertyLimits {
  /** Of one endpoint. Default 1000. */
  readonly maxProperties: number;
  /** Of one property. Default 1000, in memory 100; each takes about 100 bytes. */
  readonly maxValues: number;
  /** Default 30 days; a reading older than that is not given any more. */
  readonly maxAgeMs: number;
}

export interface HistoryQuery {
  readonly fromSeconds?: number;
  readonly untilSeconds?: number;
  readonly limit?: number;
}

export interface PlannedReport {
  readonly checks: readonly Check[];
  readonly sets: readonly PlacedEntry[];
  readonly deletes: readonly Place[];
  /** The readings that were not known before. */
  readonly added: readonly SenmlRecord[];
}

/** The newest reading of a property, and how many its history has. */
export interface LatestRow {
  readonly record: SenmlRecord;
  readonly count: number;
}

type HistoryRow = Omit<SenmlRecord, "name" | "timeSeconds">;

export function historyOf(endpoint: string, name: string): string {
  return `${endpoint}\0${name}`;
}

function historyEntry(endpoint: string, { name, timeSeconds = 0, ...rest }: SenmlRecord): PlacedEntry {
  const row: HistoryRow = rest;
  return { space: "history", partition: historyOf(endpoint, name), key: timeKey(timeSeconds), value: encodeRow(row) };
}

function latestPlace(endpoint: string, name: string): Place {
  return { space: "latest", partition: endpoint, key: name };
}

function isLater(one: SenmlRecord, other: SenmlRecord): boolean {
  return (one.timeSeconds ?? 0) > (other.timeSeconds ?? 0);
}

const AGE_CHECK_EVERY = 16;
/** Aged readings that one report removes at most. */
const MAX_AGED = 100;
