import { CborError, decodeCbor, encodeCbor } from "#cbor/index.js";
import { decodeBase64url, encodeBase64url } from "./base64url.js";
import { SenmlError } from "./errors.js";
import { type FieldName, FIELDS, fieldOfLabel, isFieldName, type WireRecord } from "./fields.js";
import type { PackLimits } from "./pack-limits.js";

/** Content-formats 112 and 322 (`cbor`), 110 and 320 (`json`): RFC 8428 §12, RFC 8790 §6.1. */
export type SenmlFormat = "cbor" | "json";

/**
 * Reads the records of a pack, with those of the fields that are wanted. Unrecognized fields are left out, but one whose
 * name ends in "_" must be understood (RFC 8428 §4.4).
 *
 * @throws SenmlError SENML_TOO_LARGE, SENML_MALFORMED, SENML_BAD_FIELD, SENML_UNSUPPORTED_FIELD.
 */
export function readRecords(
  payload: Uint8Array,
  format: SenmlFormat,
  limits: PackLimits,
  wants: (name: FieldName) => boolean,
): WireRecord[] {
  const { maxBytes, maxRecords } = limits;
  if (payload.length > maxBytes) throw new SenmlError("SENML_TOO_LARGE", `a pack has ${maxBytes} bytes at most`);
  return format === "cbor" ? readCbor(payload, maxRecords, wants) : readJson(payload, maxRecords, wants);
}

/** Writes records as they are. The caller has checked them. */
export function writeRecords(records: readonly WireRecord[], format: SenmlFormat): Uint8Array {
  return format === "cbor" ? writeCbor(records) : writeJson(records);
}

function readCbor(payload: Uint8Array, maxRecords: number, wants: (name: FieldName) => boolean): WireRecord[] {
  let pack: unknown;
  try {
    // The payload's size bounds the items too.
    pack = decodeCbor(payload, { maxDepth: MAX_DEPTH, maxItems: payload.length, tags: "drop" });
  } catch (error) {
    if (!(error instanceof CborError)) throw error;
    throw new SenmlError("SENML_MALFORMED", `the payload is no well-formed CBOR: ${error.message}`, { cause: error });
  }
  return recordsOf(pack, maxRecords).map((record, index) => atRecord(index, () => readCborRecord(record, wants)));
}

function readCborRecord(pairs: unknown, wants: (name: FieldName) => boolean): WireRecord {
  if (!(pairs instanceof Map)) throw new SenmlError("SENML_MALFORMED", "a record is a map");
  const record: WireRecord = {};
  checkNotEmpty(pairs.size);
  for (const [label, value] of pairs as Map<unknown, unknown>) {
    if (typeof label !== "number" && typeof label !== "string")
      throw new SenmlError("SENML_MALFORMED", "a label is an integer or a text");
    const name = typeof label === "number" ? fieldOfLabel(label) : undefined;
    if (name !== undefined && wants(name)) setField(record, name, value);
    else if (typeof label === "string") checkIgnorable(label);
  }
  return record;
}

function readJson(payload: Uint8Array, maxRecords: number, wants: (name: FieldName) => boolean): WireRecord[] {
  let pack: unknown;
  try {
    pack = JSON.parse(STRICT_TEXT.decode(payload));
  } catch (error) {
    throw new SenmlError("SENML_MALFORMED", "the payload is no well-formed JSON", { cause: error });
  }
  return recordsOf(pack, maxRecords).map((record, index) => atRecord(index, () => readJsonRecord(record, wants)));
}

/** Of a member that is there twice the last one counts, as JSON.parse has it (RFC 8259 §4 leaves it open). */
function readJsonRecord(json: unknown, wants: (name: FieldName) => boolean): WireRecord {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new SenmlError("SENML_MALFORMED", "a record is an object");
  const record: WireRecord = {};
  const members: [string, unknown][] = Object.entries(json);
  checkNotEmpty(members.length);
  for (const [member, value] of members) {
    if (!isFieldName(member)) checkIgnorable(member);
    else if (wants(member))
      setField(record, member, member === "vd" && typeof value === "string" ? decodeBase64url(value) : value);
  }
  return record;
}

function recordsOf(pack: unknown, maxRecords: number): readonly unknown[] {
  if (!Array.isArray(pack)) throw new SenmlError("SENML_MALFORMED", "a pack is an array of records");
  if (pack.length > maxRecords) throw new SenmlError("SENML_TOO_LARGE", `a pack has ${maxRecords} records at most`);
  return pack;
}

function checkNotEmpty(fields: number): void {
  if (fields === 0) throw new SenmlError("SENML_MALFORMED", "a record has at least one field");
}

function checkIgnorable(name: string): void {
  if (name.endsWith("_"))
    throw new SenmlError("SENML_UNSUPPORTED_FIELD", `must be understood, and is not: ${name.slice(0, 32)}`);
}

/** Names the record in what its reading throws. */
function atRecord<T>(index: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SenmlError)) throw error;
    throw new SenmlError(error.code, error.message, { record: index, cause: error.cause });
  }
}

function setField(record: WireRecord, name: FieldName, value: unknown): void {
  const fail = (): never => {
    throw new SenmlError("SENML_BAD_FIELD", `${name} is to be a ${FIELDS[name].type}`);
  };
  switch (name) {
    case "bver":
    case "bt":
    case "bv":
    case "bs":
    case "v":
    case "s":
    case "t":
    case "ut":
      record[name] = typeof value === "number" && Number.isFinite(value) ? value : fail();
      return;
    case "bn":
    case "bu":
    case "n":
    case "u":
    case "vs":
      record[name] = typeof value === "string" && isWellFormed(value) ? value : fail();
      return;
    case "vb":
      record[name] = typeof value === "boolean" ? value : fail();
      return;
    case "vd":
      record[name] = value instanceof Uint8Array ? value : fail();
      return;
  }
}

/** Whether a text can be written in UTF-8: JSON's escapes can make half of a surrogate pair. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

function writeCbor(records: readonly WireRecord[]): Uint8Array {
  return encodeCbor(
    records.map((record) => new Map(entriesOf(record).map(([name, value]) => [FIELDS[name].label, value]))),
  );
}

function writeJson(records: readonly WireRecord[]): Uint8Array {
  const objects = records.map((record) =>
    Object.fromEntries(
      entriesOf(record).map(([name, value]) => [name, value instanceof Uint8Array ? encodeBase64url(value) : value]),
    ),
  );
  return new TextEncoder().encode(JSON.stringify(objects));
}

function entriesOf(record: WireRecord): [FieldName, number | string | boolean | Uint8Array][] {
  return FIELD_NAMES.flatMap((name) => {
    const value = record[name];
    return value === undefined ? [] : [[name, value]];
  });
}

/** The pack, its records, and 16 levels below a field's value. */
const MAX_DEPTH = 18;
const FIELD_NAMES = Object.keys(FIELDS) as FieldName[];
const STRICT_TEXT = new TextDecoder("utf-8", { fatal: true });
