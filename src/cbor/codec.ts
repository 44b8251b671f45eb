import { Decoder, Encoder } from "cbor-x";
import { checkPlainCbor, type CborLimits } from "./check.js";

/**
 * Decodes CBOR of plain data from whoever sent it; maps become Map. Byte strings are copies.
 *
 * @throws CborError for anything else, with bounded work and memory.
 */
export function decodeCbor(bytes: Uint8Array, limits: Partial<CborLimits> = {}): unknown {
  checkPlainCbor(bytes, { ...DEFAULT_CBOR_LIMITS, ...limits });
  return DECODER.decode(bytes);
}

/** Encodes plain data; a Map keeps its keys' types and order. */
export function encodeCbor(value: unknown): Uint8Array {
  return Uint8Array.from(ENCODER.encode(value));
}

export const DEFAULT_CBOR_LIMITS: CborLimits = { maxDepth: 4, maxItems: 256 };

const DECODER = new Decoder({ useRecords: false, mapsAsObjects: false });
const ENCODER = new Encoder({ useRecords: false, mapsAsObjects: false, tagUint8Array: false });
