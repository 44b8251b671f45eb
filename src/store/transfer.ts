import { type Backend, type PlacedEntry, SPACES } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { StoreError } from "./errors.js";
import { schemaOf, upgradeSchema } from "./schema.js";

/**
 * A store as lines of JSON, the same for every backend: first what it is, then an entry a line, last how many there were.
 * It has every secret that the store has.
 */
export async function* exportStore(backend: Backend): AsyncIterable<string> {
  const schema = await schemaOf(backend);
  if (schema === undefined) throw new StoreError("STORE_CORRUPT", "there is no store: it has no schema version");
  yield JSON.stringify({ format: FORMAT, schema });
  let entries = 0;
  for (const space of SPACES) {
    if (space === "meta") continue;
    for await (const { partition, key, value } of backend.scan(space)) {
      entries += 1;
      const given =
        space === "registration"
          ? new TextDecoder().decode(value)
          : value.length === 0
            ? null
            : toJson(decodeRow(value));
      yield JSON.stringify([space, partition, key, given]);
    }
  }
  yield JSON.stringify({ entries });
}

/**
 * Fills an empty store from the lines of an export; returns the number of entries.
 *
 * @throws StoreError STORE_NOT_EMPTY, STORE_CORRUPT (with the line), STORE_NEWER_SCHEMA. Lines before a bad one are kept, but
 * without a schema version no server takes them for a store.
 */
export async function importStore(backend: Backend, lines: AsyncIterable<string>): Promise<number> {
  if ((await schemaOf(backend)) !== undefined) throw new StoreError("STORE_NOT_EMPTY", "the store is not empty");
  let number = 0;
  let schema: number | undefined;
  let announced: number | undefined;
  let batch: PlacedEntry[] = [];
  let entries = 0;
  for await (const line of lines) {
    number += 1;
    if (line.trim() === "") continue;
    const given = parse(line, number);
    if (schema === undefined) schema = headerOf(given, number);
    else if (Array.isArray(given)) {
      batch.push(entryOf(given, number));
      entries += 1;
      if (batch.length >= BATCH) {
        await backend.commit({ sets: batch });
        batch = [];
      }
    } else announced = (given as { readonly entries?: number }).entries;
  }
  if (schema === undefined || announced !== entries)
    throw new StoreError("STORE_CORRUPT", `the export is not whole: ${entries} of ${announced ?? "unknown"} entries`);
  await backend.commit({
    sets: [...batch, { space: "meta", partition: "", key: "schema", value: encodeRow({ version: schema }) }],
  });
  await upgradeSchema(backend);
  return entries;
}

function parse(line: string, number: number): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new StoreError("STORE_CORRUPT", `line ${number} is no JSON`, { cause: error });
  }
}

function headerOf(given: unknown, number: number): number {
  const header = given as { readonly format?: unknown; readonly schema?: unknown } | null;
  if (header?.format === FORMAT && typeof header.schema === "number") return header.schema;
  throw new StoreError("STORE_CORRUPT", `line ${number} does not begin an export of a store`);
}

function entryOf(given: readonly unknown[], number: number): PlacedEntry {
  const [name, partition, key, value] = given;
  const space = SPACES.find((known) => known === name);
  if (
    space === undefined ||
    space === "meta" ||
    typeof partition !== "string" ||
    typeof key !== "string" ||
    given.length !== 4
  )
    throw new StoreError("STORE_CORRUPT", `line ${number} is no entry of a store`);
  if (typeof value === "string") return { space, partition, key, value: new TextEncoder().encode(value) };
  if (value === null) return { space, partition, key, value: new Uint8Array(0) };
  return { space, partition, key, value: encodeRow(fromJson(value) as object) };
}

/** Bytes become `{"$bytes": base64}`, and undefined goes. */
function toJson(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("base64") };
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map((item) => toJson(item));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, toJson(item)]));
}

function fromJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => fromJson(item));
  if (typeof value !== "object" || value === null) return value;
  const { $bytes } = value as { readonly $bytes?: unknown };
  if (typeof $bytes === "string") return Uint8Array.from(Buffer.from($bytes, "base64"));
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, fromJson(item)]));
}

const FORMAT = "dpe-store";
const BATCH = 500;
