import { SenmlError, type SenmlErrorCode } from "./errors.js";
import type { WireRecord } from "./fields.js";
import { checkName, DEFAULT_VERSION, isSupportedVersion, type SenmlRecord } from "./senml-record.js";
import { isWellFormed, type SenmlFormat, writeRecords } from "./wire.js";

/**
 * Encodes records, compacted: what their names share, their unit and the first time become base fields where that saves
 * bytes and where base and rest add up to exactly what was given. In CBOR each number takes the fewest bytes that keep it.
 *
 * @throws SenmlError SENML_BAD_NAME, SENML_NO_VALUE, SENML_BAD_FIELD (a number that is not finite, a text that has no
 * UTF-8, versions that differ), SENML_UNSUPPORTED_VERSION; each names the record.
 */
export function encodePack(records: readonly SenmlRecord[], format: SenmlFormat): Uint8Array {
  for (const [index, record] of records.entries()) {
    checkRecord(record, index);
    if (record.version !== records[0]?.version)
      refuse("SENML_BAD_FIELD", "all records of a pack have the same version", index);
  }
  const base: Base = {
    name: commonPrefix(records.map(({ name }) => name)),
    time: baseTime(records),
    unit: baseUnit(records),
  };
  const wire = records.map((record) => toWire(record, base));
  const [first, ...rest] = wire;
  if (first === undefined) return writeRecords([], format);
  return writeRecords([{ ...baseFields(base, records[0]?.version), ...first }, ...rest], format);
}

/** @throws SenmlError as {@link encodePack}, for a record that no pack can have. */
export function checkRecord(record: SenmlRecord, index: number): void {
  checkName(record.name, index);
  const { value, sum, timeSeconds, updateTimeSeconds, unit, version } = record;
  if (value === undefined && sum === undefined) refuse("SENML_NO_VALUE", "neither a value nor a sum", index);
  for (const number of [value, sum, timeSeconds, updateTimeSeconds])
    if (typeof number === "number" && !Number.isFinite(number))
      refuse("SENML_BAD_FIELD", `${number} is no number`, index);
  for (const text of [value, unit])
    if (typeof text === "string" && !isWellFormed(text)) refuse("SENML_BAD_FIELD", "a text has no UTF-8 form", index);
  if (version !== undefined && !isSupportedVersion(version))
    refuse("SENML_UNSUPPORTED_VERSION", `version ${version} is not known`, index);
}

/** The start that names share, at a "/" or ":", or whole where they are the same; nothing for a single one. */
export function commonPrefix(names: readonly string[]): string {
  const [first, ...others] = names;
  if (first === undefined || others.length === 0) return "";
  if (others.every((name) => name === first)) return first;
  let length = first.length;
  for (const name of others) while (!name.startsWith(first.slice(0, length))) length -= 1;
  return first.slice(0, Math.max(first.lastIndexOf("/", length - 1), first.lastIndexOf(":", length - 1)) + 1);
}

interface Base {
  /** Empty: none. */
  readonly name: string;
  readonly time: number | undefined;
  readonly unit: string | undefined;
}

function refuse(code: SenmlErrorCode, message: string, record: number): never {
  throw new SenmlError(code, message, { record });
}

/** The first time, where most records have one, and none would change by the rounding of its difference. */
function baseTime(records: readonly SenmlRecord[]): number | undefined {
  const times = records.flatMap(({ timeSeconds }) => timeSeconds ?? []);
  const [base] = times;
  if (base === undefined || times.length < 2 || times.length * 2 <= records.length) return undefined;
  const isExact = records.every(({ timeSeconds = 0 }) => base + (timeSeconds - base) === timeSeconds);
  return isExact ? base : undefined;
}

/** The most frequent unit. Only where every record has one: the base would give it to those without. */
function baseUnit(records: readonly SenmlRecord[]): string | undefined {
  const counts = new Map<string, number>();
  for (const { unit } of records) {
    if (unit === undefined) return undefined;
    counts.set(unit, (counts.get(unit) ?? 0) + 1);
  }
  let best: string | undefined;
  let most = 1;
  for (const [unit, count] of counts) if (count > most) [best, most] = [unit, count];
  return best;
}

function baseFields(base: Base, version: number | undefined): WireRecord {
  const wire: WireRecord = {};
  if (version !== undefined && version !== DEFAULT_VERSION) wire.bver = version;
  if (base.name !== "") wire.bn = base.name;
  if (base.time !== undefined) wire.bt = base.time;
  if (base.unit !== undefined) wire.bu = base.unit;
  return wire;
}

function toWire(record: SenmlRecord, base: Base): WireRecord {
  const wire: WireRecord = {};
  const rest = record.name.slice(base.name.length);
  if (rest !== "") wire.n = rest;
  if (record.unit !== undefined && record.unit !== base.unit) wire.u = record.unit;
  if (record.sum !== undefined) wire.s = record.sum;
  const time = (record.timeSeconds ?? 0) - (base.time ?? 0);
  if (time !== 0) wire.t = time;
  if (record.updateTimeSeconds !== undefined) wire.ut = record.updateTimeSeconds;
  const { value } = record;
  if (typeof value === "number") wire.v = value;
  else if (typeof value === "string") wire.vs = value;
  else if (typeof value === "boolean") wire.vb = value;
  else if (value !== undefined) wire.vd = value;
  return wire;
}
