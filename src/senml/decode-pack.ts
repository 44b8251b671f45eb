import { SenmlError } from "./errors.js";
import type { WireRecord } from "./fields.js";
import { DEFAULT_PACK_LIMITS, type PackLimits } from "./pack-limits.js";
import { absoluteTime, checkName, DEFAULT_VERSION, isSupportedVersion, type SenmlRecord } from "./senml-record.js";
import { readRecords, type SenmlFormat } from "./wire.js";

/**
 * Decodes and resolves a SenML pack (RFC 8428 §4.6): base fields are folded in, times are absolute, records are in the
 * order of time (those of one time in the order of the pack). A pack is taken whole or not at all. Differs from RFC 8428
 * §11: an empty pack is taken, as one that says nothing.
 *
 * `nowSeconds` is the receiver's time in seconds since 1970, against which relative times (below 2^28) are taken. The
 * receiver owns the bytes of values.
 *
 * @throws SenmlError SENML_MALFORMED, SENML_BAD_FIELD, SENML_BAD_NAME, SENML_NO_VALUE, SENML_TOO_LARGE,
 * SENML_UNSUPPORTED_FIELD, SENML_UNSUPPORTED_VERSION; nothing else, whatever the bytes.
 */
export function decodePack(
  payload: Uint8Array,
  format: SenmlFormat,
  nowSeconds: number,
  limits: Partial<PackLimits> = {},
): SenmlRecord[] {
  const wire = readRecords(payload, format, { ...DEFAULT_PACK_LIMITS, ...limits }, () => true);
  const version = versionOf(wire);
  const base: Base = { name: "", time: 0, unit: undefined, value: undefined, sum: undefined };
  const resolved: (SenmlRecord & { readonly timeSeconds: number })[] = [];
  for (const [index, record] of wire.entries()) {
    applyBase(record, base);
    const reading = resolve(record, base, version, index, nowSeconds);
    if (reading !== undefined) resolved.push(reading);
  }
  return resolved.sort((one, other) => one.timeSeconds - other.timeSeconds);
}

interface Base {
  name: string;
  time: number;
  unit: string | undefined;
  value: number | undefined;
  sum: number | undefined;
}

/** The version of the whole pack: every record has the same (§4.4), and one before the first `bver` has the default. */
function versionOf(records: readonly WireRecord[]): number {
  const version = records[0]?.bver ?? DEFAULT_VERSION;
  for (const [record, { bver }] of records.entries()) {
    if (bver === undefined) continue;
    if (!isSupportedVersion(bver))
      throw new SenmlError("SENML_UNSUPPORTED_VERSION", `version ${bver} is not known`, { record });
    if (bver !== version)
      throw new SenmlError("SENML_BAD_FIELD", "all records of a pack have the same version", { record });
  }
  return version;
}

function applyBase(record: WireRecord, base: Base): void {
  base.name = record.bn ?? base.name;
  base.time = record.bt ?? base.time;
  base.unit = record.bu ?? base.unit;
  base.value = record.bv ?? base.value;
  base.sum = record.bs ?? base.sum;
}

/** A record with its base folded in; `undefined` for one that only sets the base. */
function resolve(
  record: WireRecord,
  base: Base,
  version: number,
  index: number,
  nowSeconds: number,
): (SenmlRecord & { readonly timeSeconds: number }) | undefined {
  const { n, u, v, vs, vb, vd, s, t, ut } = record;
  const values =
    Number(v !== undefined) + Number(vs !== undefined) + Number(vb !== undefined) + Number(vd !== undefined);
  const others = n ?? u ?? s ?? t ?? ut;
  if (values === 0 && others === undefined) return undefined;
  if (values > 1) throw new SenmlError("SENML_BAD_FIELD", "more than one value", { record: index });
  const sum = s === undefined && base.sum === undefined ? undefined : finite((base.sum ?? 0) + (s ?? 0), "s", index);
  let value = v ?? vs ?? vb ?? vd;
  // §4.5.4: of base value and value the missing one is zero; a base value alone is a value, unless a sum stands for it.
  if (base.value !== undefined && (typeof value === "number" || (value === undefined && s === undefined)))
    value = finite(base.value + (value ?? 0), "v", index);
  if (value === undefined && sum === undefined)
    throw new SenmlError("SENML_NO_VALUE", "neither a value nor a sum", { record: index });

  const name = base.name + (n ?? "");
  checkName(name, index);
  const unit = u ?? base.unit;
  // Field by field: spreading into a literal costs several times as much, and this is done for every reading.
  const resolved: { -readonly [Field in keyof SenmlRecord]: SenmlRecord[Field] } & { timeSeconds: number } = {
    name,
    timeSeconds: absoluteTime(finite(base.time + (t ?? 0), "t", index), nowSeconds),
  };
  if (unit !== undefined) resolved.unit = unit;
  if (value !== undefined) resolved.value = value;
  if (sum !== undefined) resolved.sum = sum;
  if (ut !== undefined) resolved.updateTimeSeconds = ut;
  if (version !== DEFAULT_VERSION) resolved.version = version;
  return resolved;
}

/** Two finite numbers can add up to an infinite one. */
function finite(value: number, field: string, record: number): number {
  if (Number.isFinite(value)) return value;
  throw new SenmlError("SENML_BAD_FIELD", `${field} and its base add up to no number`, { record });
}
