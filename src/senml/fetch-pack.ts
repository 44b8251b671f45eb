import { commonPrefix } from "./encode-pack.js";
import { SenmlError } from "./errors.js";
import type { WireRecord } from "./fields.js";
import { DEFAULT_PACK_LIMITS, type PackLimits } from "./pack-limits.js";
import { absoluteTime, checkName, type SenmlRecord } from "./senml-record.js";
import { readRecords, type SenmlFormat, writeRecords } from "./wire.js";

/**
 * Decodes the Fetch Pack of a FETCH request (RFC 8790 §3.1, content-formats 320 in JSON and 322 in CBOR). Fields other
 * than name, time and their bases are ignored, whatever they hold; a field that must be understood is refused. A record
 * without a name asks for the one that the base name names.
 *
 * `nowSeconds` as for `decodePack`.
 *
 * @throws SenmlError SENML_MALFORMED, SENML_BAD_FIELD, SENML_BAD_NAME, SENML_TOO_LARGE, SENML_UNSUPPORTED_FIELD.
 */
export function decodeFetchPack(
  payload: Uint8Array,
  format: SenmlFormat,
  nowSeconds: number,
  limits: Partial<PackLimits> = {},
): FetchRecord[] {
  const wire = readRecords(payload, format, { ...DEFAULT_PACK_LIMITS, ...limits }, (name) => FETCH_FIELDS.has(name));
  let baseName = "";
  let baseTime: number | undefined;
  return wire.map(({ bn, bt, n, t }, index) => {
    baseName = bn ?? baseName;
    baseTime = bt ?? baseTime;
    const name = baseName + (n ?? "");
    checkName(name, index);
    // No time given does not mean zero here: it matches every time.
    if (t === undefined && baseTime === undefined) return { name };
    const time = (baseTime ?? 0) + (t ?? 0);
    if (!Number.isFinite(time))
      throw new SenmlError("SENML_BAD_FIELD", "t and its base add up to no number", { record: index });
    return { name, timeSeconds: absoluteTime(time, nowSeconds) };
  });
}

/** Encodes a Fetch Pack, what the names share as base name. @throws SenmlError SENML_BAD_NAME, SENML_BAD_FIELD. */
export function encodeFetchPack(records: readonly FetchRecord[], format: SenmlFormat): Uint8Array {
  for (const [index, { name, timeSeconds }] of records.entries()) {
    checkName(name, index);
    if (timeSeconds !== undefined && !Number.isFinite(timeSeconds))
      throw new SenmlError("SENML_BAD_FIELD", `${timeSeconds} is no number`, { record: index });
  }
  const prefix = commonPrefix(records.map(({ name }) => name));
  const wire = records.map(({ name, timeSeconds }, index) => {
    const record: WireRecord = {};
    if (index === 0 && prefix !== "") record.bn = prefix;
    // A record needs a field, and an empty name adds nothing to the base.
    record.n = name.slice(prefix.length);
    if (timeSeconds !== undefined) record.t = timeSeconds;
    return record;
  });
  return writeRecords(wire, format);
}

/** The records that a Fetch Pack selects, in their own sequence (RFC 8790 §3.1): by name, and by time where one is given. */
export function selectRecords(records: readonly SenmlRecord[], fetch: readonly FetchRecord[]): SenmlRecord[] {
  const timesByName = new Map<string, Set<number> | "all">();
  for (const { name, timeSeconds } of fetch) {
    const times = timesByName.get(name);
    if (timeSeconds === undefined || times === "all") timesByName.set(name, "all");
    else timesByName.set(name, (times ?? new Set()).add(timeSeconds));
  }
  return records.filter(({ name, timeSeconds }) => {
    const times = timesByName.get(name);
    return times === "all" || (times !== undefined && timeSeconds !== undefined && times.has(timeSeconds));
  });
}

/** What one Fetch Record asks for. */
export interface FetchRecord {
  readonly name: string;
  /** Absolute, in seconds since 1970; absent: every time. When encoding, below 2^28 for one relative to now. */
  readonly timeSeconds?: number;
}

const FETCH_FIELDS: ReadonlySet<string> = new Set(["bn", "bt", "n", "t"]);
