import { Decoder, Encoder } from "cbor-x";
import { StoreError } from "./errors.js";

/** The form of values at rest: CBOR maps of plain data. */
export function encodeRow(row: object): Uint8Array {
  return Uint8Array.from(ENCODER.encode(row));
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
