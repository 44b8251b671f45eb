import { SenmlError } from "./errors.js";
import type { WireRecord } from "./fields.js";
import { readRecords, type SenmlFormat, writeRecords } from "./wire.js";

/**
 * Decodes and resolves a SenML pack (RFC 8428 §4.6): base fields are folded in, times are absolute.
 *
 * `nowSeconds` is the receiver's time in seconds since 1970, against which relative times (below 2^28) are taken.
 *
 * @throws SenmlError SENML_MALFORMED, SENML_BAD_FIELD, SENML_BAD_NAME, SENML_NO_VALUE, SENML_TOO_LARGE,
 * SENML_UNSUPPORTED_FIELD, SENML_UNSUPPORTED_VERSION. A pack is taken whole or not at all.
 */
export function decodePack(
  payload: Uint8Array,
  format: SenmlFormat,
  nowSeconds: number,
  limits: Partial<PackLimits> = {},
): SenmlRecord[] {
  const { maxBytes, maxRecords } = { ...DEFAULT_PACK_LIMITS, ...limits };
  if (payload.length > maxBytes) throw new SenmlError("SENML_TOO_LARGE", `a pack has ${maxBytes} bytes at most`);
  const wire = readRecords(payload, format, maxRecords);
  const base: Base = { name: "", time: 0, unit: undefined, value: undefined, sum: undefined, version: undefined };
  return wire.flatMap((record, index) => resolve(record, base, index, nowSeconds) ?? []);
}

/** Encodes resolved records, with their common name prefix and first time as base. @throws SenmlError SENML_BAD_NAME, SENML_NO_VALUE, SENML_BAD_FIELD. */
export function encodePack(records: readonly SenmlRecord[], format: SenmlFormat): Uint8Array {
  for (const [index, { name, value, sum }] of records.entries()) {
    checkName(name, index);
    if (value === undefined && sum === undefined) {
      throw new SenmlError("SENML_NO_VALUE", "neither a value nor a sum", { record: index });
    }
    if ([value, sum].some((number) => typeof number === "number" && !Number.isFinite(number))) {
      throw new SenmlError("SENML_BAD_FIELD", "a value is to be a finite number", { record: index });
    }
  }
  const prefix = commonPrefix(records.map(({ name }) => name));
  const baseTime = records.find(({ timeSeconds }) => timeSeconds !== undefined)?.timeSeconds;
  return writeRecords(
    records.map((record, index) => toWire(record, index === 0, prefix, baseTime)),
    format,
  );
}

/** One measured value, resolved. */
export interface SenmlRecord {
  readonly name: string;
  /** From the units registry of RFC 8428 §12.1 and RFC 8798. */
  readonly unit?: string;
  readonly value?: SenmlValue;
  readonly sum?: number;
  /**
   * Seconds since 1970. When encoding, one below 2^28 stands for a time relative to the receiver's now (RFC 8428
   * §4.5.3), and an absent one for now; after decoding it is absolute.
   */
  readonly timeSeconds?: number;
}

export type SenmlValue = number | string | boolean | Uint8Array;

export interface PackLimits {
  /** Default 64 KiB. */
  readonly maxBytes: number;
  /** Default 1000. */
  readonly maxRecords: number;
}

export const DEFAULT_PACK_LIMITS: PackLimits = { maxBytes: 65_536, maxRecords: 1000 };

/** Times below are relative to now (RFC 8428 §4.5.3). */
export const FIRST_ABSOLUTE_TIME_SECONDS: number = 2 ** 28;

/** @throws SenmlError SENML_BAD_NAME: RFC 8428 §4.5.1. */
export function checkName(name: string, record?: number): void {
  if (/^[A-Za-z0-9][A-Za-z0-9:._/-]*$/.test(name) && name.length <= MAX_NAME_LENGTH) return;
  throw new SenmlError(
    "SENML_BAD_NAME",
    `a name is 1 to ${MAX_NAME_LENGTH} of A-Z a-z 0-9 - : . / _ and starts with a letter or digit`,
    record === undefined ? {} : { record },
  );
}

interface Base {
  name: string;
  time: number;
  unit: string | undefined;
  value: number | undefined;
  sum: number | undefined;
  version: number | undefined;
}

function resolve(record: WireRecord, base: Base, index: number, nowSeconds: number): SenmlRecord | undefined {
  if (record.bver !== undefined && record.bver > SENML_VERSION) {
    throw new SenmlError("SENML_UNSUPPORTED_VERSION", `version ${record.bver} is newer than ${SENML_VERSION}`, {
      record: index,
    });
  }
  base.name = record.bn ?? base.name;
  base.time = record.bt ?? base.time;
  base.unit = record.bu ?? base.unit;
  base.value = record.bv ?? base.value;
  base.sum = record.bs ?? base.sum;
  const values = [record.v, record.vs, record.vb, record.vd].filter((value) => value !== undefined);
  if (values.length > 1) throw new SenmlError("SENML_BAD_FIELD", "more than one value", { record: index });
  const { n, s } = record;
  let [value] = values;
  if (
    base.value !== undefined &&
    (typeof value === "number" || (value === undefined && s === undefined && n !== undefined))
  ) {
    value = base.value + (typeof value === "number" ? value : 0);
  }
  const sum = s === undefined ? undefined : s + (base.sum ?? 0);
  if (value === undefined && sum === undefined) {
    // RFC 8428 §4.2: base fields may stand alone; a name without any value may not.
    if (n !== undefined || record.u !== undefined || record.t !== undefined) {
      throw new SenmlError("SENML_NO_VALUE", "neither a value nor a sum", { record: index });
    }
    return undefined;
  }
  const name = base.name + (n ?? "");
  checkName(name, index);
  const unit = record.u ?? base.unit;
  const time = base.time + (record.t ?? 0);
  return {
    name,
    ...(unit === undefined ? {} : { unit }),
    ...(value === undefined ? {} : { value }),
    ...(sum === undefined ? {} : { sum }),
    timeSeconds: time < FIRST_ABSOLUTE_TIME_SECONDS ? nowSeconds + time : time,
  };
}

function toWire(record: SenmlRecord, isFirst: boolean, prefix: string, baseTime: number | undefined): WireRecord {
  const wire: WireRecord = {};
  if (isFirst && prefix !== "") wire.bn = prefix;
  if (isFirst && baseTime !== undefined) wire.bt = baseTime;
  const rest = record.name.slice(prefix.length);
  if (rest !== "") wire.n = rest;
  if (record.unit !== undefined) wire.u = record.unit;
  if (record.sum !== undefined) wire.s = record.sum;
  const offset = (record.timeSeconds ?? 0) - (baseTime ?? 0);
  if (offset !== 0) wire.t = offset;
  const { value } = record;
  if (typeof value === "number") wire.v = value;
  else if (typeof value === "string") wire.vs = value;
  else if (typeof value === "boolean") wire.vb = value;
  else if (value !== undefined) wire.vd = value;
  return wire;
}

/** Up to and with the last "/" that all names share; nothing for a single record, where it saves nothing. */
function commonPrefix(names: readonly string[]): string {
  const [first, ...others] = names;
  if (first === undefined || others.length === 0) return "";
  let length = first.lastIndexOf("/") + 1;
  while (length > 0 && !others.every((name) => name.startsWith(first.slice(0, length)))) {
    length = first.lastIndexOf("/", length - 2) + 1;
  }
  return first.slice(0, length);
}

const SENML_VERSION = 10;
const MAX_NAME_LENGTH = 255;
