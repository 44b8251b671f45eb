import { Decoder, Encoder } from "cbor-x";
import type { KeptRow } from "./known-endpoints.js";
import { StoreError } from "./errors.js";

/** The form of values at rest: CBOR maps of plain data. The bytes are part of a larger array: keep a copy. */
export function encodeRow(row: object): Uint8Array {
  return ENCODER.encode(row);
}

/** A row and its bytes, which are part of a larger array: not to be kept as they are. */
export function writtenRow<Row extends object>(row: Row): KeptRow<Row> {
  return { row, bytes: encodeRow(row) };
}

/** A row that this store wrote, with its bytes. @throws StoreError STORE_CORRUPT. */
export function readRow<Row>(bytes: Uint8Array | undefined): KeptRow<Row> | undefined {
  return bytes === undefined ? undefined : { row: decodeRow<Row>(bytes), bytes };
}

/** A row that this store wrote. @throws StoreError STORE_CORRUPT for bytes that are no CBOR. */
export function decodeRow<Row>(bytes: Uint8Array): Row {
  try {
    return DECODER.decode(bytes) as Row;
  } catch (error) {
    throw new StoreError("STORE_CORRUPT", "an entry of the store is not CBOR", { cause: error });
  }
}

const ENCODER = new Encoder({ useRecords: false, mapsAsObjects: true, tagUint8Array: false });
const DECODER = new Decoder({ useRecords: false, mapsAsObjects: true });
