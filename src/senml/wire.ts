import { decodeCbor, encodeCbor } from "#cbor/index.js";
import { SenmlError } from "./errors.js";
import { type FieldName, FIELDS, fieldOfLabel, isFieldName, type WireRecord } from "./fields.js";

/** Reads the records of a pack, field by field. Unknown fields are left out, but those that must be understood. */
export function readRecords(payload: Uint8Array, format: SenmlFormat, maxRecords: number): WireRecord[] {
  const pack = format === "cbor" ? parseCbor(payload, maxRecords) : parseJson(payload);
  if (!Array.isArray(pack)) throw new SenmlError("SENML_MALFORMED", "a pack is an array of records");
  if (pack.length > maxRecords) throw new SenmlError("SENML_TOO_LARGE", `a pack has ${maxRecords} records at most`);
  return pack.map((record: unknown, index) => readRecord(record, index, format));
}

export function writeRecords(records: readonly WireRecord[], format: SenmlFormat): Uint8Array {
  if (format === "cbor") {
    const maps = records.map(
      (record) => new Map(entriesOf(record).map(([name, value]) => [FIELDS[name].label, value])),
    );
    return encodeCbor(maps);
  }
  const objects = records.map((record) =>
    Object.fromEntries(
      entriesOf(record).map(([name, value]) => [
        name,
        value instanceof Uint8Array ? Buffer.from(value).toString("base64url") : value,
      ]),
    ),
  );
  return new TextEncoder().encode(JSON.stringify(objects));
}

export type SenmlFormat = "cbor" | "json";

function entriesOf(record: WireRecord): [FieldName, number | string | boolean | Uint8Array][] {
  return (Object.keys(FIELDS) as FieldName[]).flatMap((name) => {
    const value = record[name];
    return value === undefined ? [] : [[name, value]];
  });
}

function parseCbor(payload: Uint8Array, maxRecords: number): unknown {
  try {
    return decodeCbor(payload, { maxDepth: 2, maxItems: 1 + maxRecords * MAX_ITEMS_PER_RECORD });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SenmlError("SENML_MALFORMED", `the payload is no plain CBOR: ${reason}`, { cause: error });
  }
}

function parseJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(STRICT_TEXT.decode(payload));
  } catch (error) {
    throw new SenmlError("SENML_MALFORMED", "the payload is no well-formed JSON", { cause: error });
  }
}

function readRecord(record: unknown, index: number, format: SenmlFormat): WireRecord {
  const fields: Map<unknown, unknown> =
    record instanceof Map
      ? record
      : new Map(typeof record === "object" && record !== null && !Array.isArray(record) ? Object.entries(record) : []);
  if (fields.size === 0)
    throw new SenmlError("SENML_MALFORMED", "a record is a map with at least one field", { record: index });
  const read: WireRecord = {};
  for (const [key, value] of fields) {
    const name = nameOf(key);
    if (name === undefined) {
      // RFC 8428 §4.4: a name that ends in "_" must be understood.
      if (typeof key === "string" && key.endsWith("_")) {
        throw new SenmlError("SENML_UNSUPPORTED_FIELD", `the field ${key.slice(0, 32)} must be understood and is not`, {
          record: index,
        });
      }
      continue;
    }
    setField(read, name, value, index, format);
  }
  return read;
}

function nameOf(key: unknown): FieldName | undefined {
  if (typeof key === "number") return fieldOfLabel(key);
  return typeof key === "string" && isFieldName(key) ? key : undefined;
}

function setField(record: WireRecord, name: FieldName, value: unknown, index: number, format: SenmlFormat): void {
  const fail = (): never => {
    throw new SenmlError("SENML_BAD_FIELD", `${name} is to be a ${FIELDS[name].type}`, { record: index });
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
      record[name] = numberOf(value) ?? fail();
      return;
    case "bn":
    case "bu":
    case "n":
    case "u":
    case "vs":
      record[name] = typeof value === "string" ? value : fail();
      return;
    case "vb":
      record[name] = typeof value === "boolean" ? value : fail();
      return;
    case "vd":
      record[name] = (format === "cbor" ? bytesOf(value) : base64Of(value)) ?? fail();
      return;
  }
}

/** RFC 8428 §6 also allows 64-bit integers, which cbor-x gives as bigint where they need it. */
function numberOf(value: unknown): number | undefined {
  const number = typeof value === "bigint" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : undefined;
}

function bytesOf(value: unknown): Uint8Array | undefined {
  return value instanceof Uint8Array ? Uint8Array.from(value) : undefined;
}

function base64Of(value: unknown): Uint8Array | undefined {
  if (typeof value !== "string" || !/^[A-Za-z0-9_-]*$/.test(value)) return undefined;
  return Uint8Array.from(Buffer.from(value, "base64url"));
}

const STRICT_TEXT = new TextDecoder("utf-8", { fatal: true });
/** Each field of RFC 8428 once, with its key, and room for unknown ones. */
const MAX_ITEMS_PER_RECORD = 41;
