import { Decoder, Encoder } from "cbor-x";
import type { KeptRow } from "./known-endpoints.js";
import { StoreError } from "./errors.js";

/** The form of values at rest: CBOR maps of plain data. The bytes are part of a larger array: keep a copy, or by a {@link RowKeeper}. */
export function encodeRow(row: object): Uint8Array {
  return ENCODER.encode(row);
}

/** A row and its bytes, which are part of a larger array: see {@link RowKeeper}. */
export function writtenRow<Row extends object>(row: Row): KeptRow<Row> {
  return { row, bytes: encodeRow(row) };
}

/**
 * Gives rows bytes that can be kept: of one array for the rows that come and go together. One of its own takes each row 300 bytes
 * outside of V8's heap, of which V8 knows a third, until it finds time to collect what was replaced.
 */
export class RowKeeper {
  readonly #bytes: Uint8Array;
  #used = 0;

  /** For so many bytes of rows in all. */
  constructor(length: number) {
    this.#bytes = new Uint8Array(length);
  }

  keep<Row>({ row, bytes }: KeptRow<Row>): KeptRow<Row> {
    const at = this.#used;
    this.#used += bytes.length;
    this.#bytes.set(bytes, at);
    return { row, bytes: this.#bytes.subarray(at, this.#used) };
  }
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
