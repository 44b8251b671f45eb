import { DpeError } from "#dpe/index.js";
import type { SenmlRecord } from "#senml/index.js";
import type { Backend, Change, Check, Place, PlacedEntry } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { bytesOfLatest, type LatestState, readLatest, recordOfLatest, writeLatest } from "./latest-state.js";
import { timeKey, timeOfKey } from "./time-key.js";

/**
 * The properties of the endpoints: the latest value of each, and its history.
 *
 * `latest`: partition endpoint, key name, a {@link LatestRow}. `history`: partition `endpoint NUL name`, key time, a value.
 *
 * Invariants:
 * P1. A reading is one entry of history, found by endpoint, name and time: sent twice it is kept once.
 * P2. `latest` has the reading with the greatest time of all that were reported; a late one never replaces a newer one. But one
 *     whose time is more than a day ahead, as of a device whose clock was wrong, makes way for whatever comes next.
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
   * What a report changes, as part of a change with more in it. `known` are latest rows by name, which need not be read;
   * `checks` are those of the whole change so far, which is added to.
   *
   * @throws DpeError DPE_TOO_MANY_PROPERTIES.
   */
  async plan(
    endpoint: string,
    records: readonly SenmlRecord[],
    nowMs: number,
    known: ReadonlyMap<string, LatestState> = NOTHING_KNOWN,
    checks: Check[] = [],
  ): Promise<PlannedReport> {
    const given = readingsByName(records, nowMs);
    const latest = await this.#latestRows(endpoint, given, known);
    const aheadSeconds = firstAhead(nowMs);
    const late = latePlaces(endpoint, given, latest, aheadSeconds);
    const there = late.length === 0 ? NO_PLACES : await this.#there(late);
    const planned: PlannedReport = { checks, sets: [], deletes: [], added: [], latest };
    const excess: ExcessOfName[] = [];
    for (const [name, readings] of given) {
      const partition = historyOf(endpoint, name);
      const added = there.size === 0 ? readings : readings.filter(({ key }) => !there.has(nameOfPlace(partition, key)));
      if (added.length === 0) continue;
      const count = (latest.get(name)?.count ?? 0) + added.length;
      if (this.#needsTrim(count)) excess.push({ name, added, count, partition });
      else planProperty(planned, { endpoint, name, added, count, aheadSeconds });
    }
    if (excess.length > 0) {
      const trimmed = await Promise.all(excess.map((one) => this.#excess(one, nowMs)));
      for (const [index, { name, added, count }] of excess.entries()) {
        const { deletes, neverKept } = trimmed[index] ?? { deletes: [], neverKept: NO_PLACES };
        planned.deletes.push(...deletes);
        const left = count - deletes.length - neverKept.size;
        planProperty(planned, { endpoint, name, added, count: left, aheadSeconds }, neverKept);
      }
    }
    return planned;
  }

  /** What forgets all of an endpoint. */
  async planForget(endpoint: string): Promise<Required<Pick<Change, "clears">>> {
    const entries = await this.#backend.range("latest", endpoint, { limit: Infinity });
    const histories = entries.map(({ key }) => ({ space: "history" as const, partition: historyOf(endpoint, key) }));
    return { clears: [{ space: "latest", partition: endpoint }, ...histories] };
  }

  /** Of the names given, those that exist. @throws DpeError DPE_TOO_MANY_PROPERTIES when the others would be too many. */
  async #latestRows(
    endpoint: string,
    given: ReadingsByName,
    known: ReadonlyMap<string, LatestState>,
  ): Promise<Map<string, LatestState>> {
    const rows = new Map<string, LatestState>();
    for (const name of given.keys()) {
      const row = known.get(name);
      if (row !== undefined) rows.set(name, row);
    }
    if (rows.size === given.size) return rows;
    const unknown = [...given.keys()].filter((name) => !rows.has(name));
    const values = await this.#backend.get(unknown.map((name) => latestPlace(endpoint, name)));
    for (const [index, name] of unknown.entries()) {
      const value = values[index];
      if (value !== undefined) rows.set(name, readLatest(value));
    }
    const added = unknown.filter((name) => !rows.has(name)).length;
    if (added > 0) await this.#checkCount(endpoint, added);
    return rows;
  }

  /** Which of these places have a reading already. */
  async #there(places: readonly Place[]): Promise<ReadonlySet<string>> {
    const found = await this.#backend.get(places);
    const there = places.filter((_, index) => found[index] !== undefined);
    return new Set(there.map(({ partition, key }) => nameOfPlace(partition, key)));
  }

  /** Once more than a tenth is too much; and now and then, for a series that has aged. */
  #needsTrim(count: number): boolean {
    return this.#isTooMany(count) || count % AGE_CHECK_EVERY === 0;
  }

  #isTooMany(count: number): boolean {
    const { maxValues } = this.#limits;
    return count > maxValues + Math.max(1, Math.floor(maxValues / 10));
  }

  /** What must go, the oldest first; `neverKept`: keys of readings added that are older than all for which there is room. */
  async #excess(
    { added, count, partition }: ExcessOfName,
    nowMs: number,
  ): Promise<{ readonly deletes: readonly Place[]; readonly neverKept: ReadonlySet<string> }> {
    const { maxValues, maxAgeMs } = this.#limits;
    const isTooMany = this.#isTooMany(count);
    const kept = await this.#backend.range("history", partition, {
      limit: isTooMany ? count - maxValues : MAX_AGED,
      ...(isTooMany ? {} : { before: timeKey((nowMs - maxAgeMs) / 1000) }),
    });
    const placeOf = ({ key }: { readonly key: string }): Place => ({ space: "history", partition, key });
    if (!isTooMany) return { deletes: kept.map(placeOf), neverKept: NO_PLACES };
    const all = [...kept.map(({ key }) => ({ key, isNew: false })), ...added.map(({ key }) => ({ key, isNew: true }))]
      .toSorted((one, other) => (one.key < other.key ? -1 : 1))
      .slice(0, count - maxValues);
    return {
      deletes: all.filter(({ isNew }) => !isNew).map(placeOf),
      neverKept: new Set(all.filter(({ isNew }) => isNew).map(({ key }) => key)),
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
  readonly checks: Check[];
  readonly sets: PlacedEntry[];
  readonly deletes: Place[];
  /** The readings that were not known before. */
  readonly added: SenmlRecord[];
  /** The latest rows of the properties in the report, as they are then. */
  readonly latest: Map<string, LatestState>;
}

/** A reading with its time, and its key in history. */
interface Reading {
  readonly key: string;
  readonly record: SenmlRecord;
}

/** In the order of time; of two with the same time the last. */
type ReadingsByName = ReadonlyMap<string, readonly Reading[]>;

/** A property that may have too many readings once these are added. */
interface ExcessOfName {
  readonly name: string;
  readonly added: readonly Reading[];
  readonly count: number;
  readonly partition: string;
}

/** `count`: what its history has then. */
interface PropertyChange extends Omit<ExcessOfName, "partition"> {
  readonly endpoint: string;
  readonly aheadSeconds: number;
}

/** The newest reading of a property, and how many its history has. */
export interface LatestRow {
  readonly record: SenmlRecord;
  readonly count: number;
}

type HistoryRow = Omit<SenmlRecord, "name" | "timeSeconds">;

/** The first of the times, s, that no right clock gives now. */
export function firstAhead(nowMs: number): number {
  return nowMs / 1000 + MAX_AHEAD_SECONDS;
}

export function historyOf(endpoint: string, name: string): string {
  return `${endpoint}\0${name}`;
}

function readingsByName(records: readonly SenmlRecord[], nowMs: number): ReadingsByName {
  const byName = new Map<string, Reading[]>();
  for (const given of records) {
    const { name, timeSeconds = nowMs / 1000 } = given;
    const reading = {
      key: timeKey(timeSeconds),
      record: given.timeSeconds === undefined ? { ...given, timeSeconds } : given,
    };
    const ofName = byName.get(name);
    if (ofName === undefined) byName.set(name, [reading]);
    else ofName.push(reading);
  }
  for (const [name, readings] of byName) if (readings.length > 1) byName.set(name, inOrder(readings));
  return byName;
}

function inOrder(readings: readonly Reading[]): Reading[] {
  const byKey = new Map(readings.map((reading) => [reading.key, reading]));
  return [...byKey.values()].toSorted((one, other) => (one.key < other.key ? -1 : 1));
}

/** Where those would be that are no newer than the latest, or ahead of time: others cannot be in history. */
function latePlaces(
  endpoint: string,
  given: ReadingsByName,
  latest: ReadonlyMap<string, LatestState>,
  aheadSeconds: number,
): readonly Place[] {
  const places: Place[] = [];
  for (const [name, readings] of given) {
    const before = latest.get(name);
    if (before === undefined) continue;
    for (const { key, record } of readings) {
      const { timeSeconds = 0 } = record;
      if (timeSeconds > before.timeSeconds && timeSeconds < aheadSeconds) continue;
      places.push({ space: "history", partition: historyOf(endpoint, name), key });
    }
  }
  return places;
}

/** Adds one property to the plan. */
function planProperty(
  planned: PlannedReport,
  { endpoint, name, added, count, aheadSeconds }: PropertyChange,
  neverKept: ReadonlySet<string> = NO_PLACES,
): void {
  const { checks, sets, latest } = planned;
  const partition = historyOf(endpoint, name);
  let newest: SenmlRecord | undefined;
  for (const { key, record } of added) {
    if (newest === undefined || (record.timeSeconds ?? 0) < aheadSeconds) newest = record;
    planned.added.push(record);
    if (!neverKept.has(key)) sets.push({ space: "history", partition, key, value: encodeRow(historyRowOf(record)) });
  }
  const before = latest.get(name);
  if (
    before !== undefined &&
    (newest === undefined || isNewer(before.timeSeconds, newest.timeSeconds ?? 0, aheadSeconds))
  )
    newest = recordOfLatest(before);
  if (newest === undefined) return;
  const state = writeLatest({ record: newest, count });
  latest.set(name, state);
  checks.push({ space: "latest", partition: endpoint, key: name, value: before && bytesOfLatest(before) });
  sets.push({ space: "latest", partition: endpoint, key: name, value: state.array });
}

/** Whether what is there stays the latest. What is ahead of time gives way to whatever comes. */
function isNewer(before: number, newest: number, aheadSeconds: number): boolean {
  return before < aheadSeconds && (newest >= aheadSeconds || before > newest);
}

/** All of a reading but what its place says. Put together field by field: this is done for every reading. */
function historyRowOf(record: SenmlRecord): HistoryRow {
  const row: { -readonly [Field in keyof HistoryRow]: HistoryRow[Field] } = {};
  if (record.unit !== undefined) row.unit = record.unit;
  if (record.value !== undefined) row.value = record.value;
  if (record.sum !== undefined) row.sum = record.sum;
  if (record.updateTimeSeconds !== undefined) row.updateTimeSeconds = record.updateTimeSeconds;
  if (record.version !== undefined) row.version = record.version;
  return row;
}

function nameOfPlace(partition: string, key: string): string {
  return `${partition}\0${key}`;
}

function latestPlace(endpoint: string, name: string): Place {
  return { space: "latest", partition: endpoint, key: name };
}

const NOTHING_KNOWN: ReadonlyMap<string, LatestState> = new Map();
const NO_PLACES: ReadonlySet<string> = new Set();
/** Clocks of devices and servers differ, by a time zone perhaps. */
const MAX_AHEAD_SECONDS = 86_400;
const AGE_CHECK_EVERY = 16;
/** Aged readings that one report removes at most. */
const MAX_AGED = 100;
