import { Decoder, Encoder } from "cbor-x";
import { type CborLimits, plainCbor } from "./plain.js";
import { withShortFloats } from "./short-floats.js";

/**
 * Decodes CBOR of plain data from whoever sent it; maps become Map, and integers past 2^53 the nearest number. Byte strings
 * are copies.
 *
 * @throws CborError for anything else, with bounded work and memory.
 */
export function decodeCbor(bytes: Uint8Array, limits: Partial<CborLimits> = {}): unknown {
  // Never a Buffer, whose byte strings would be Buffers too.
  const item = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return DECODER.decode(plainCbor(item, { ...DEFAULT_CBOR_LIMITS, ...limits }));
}

/** Encodes plain data; a Map keeps its keys' types and order. Each number takes the fewest bytes that keep it, zero without its sign. */
export function encodeCbor(value: unknown): Uint8Array {
  return withShortFloats(Uint8Array.from(ENCODER.encode(value)));
}

export const DEFAULT_CBOR_LIMITS: CborLimits = { maxDepth: 4, maxItems: 256, tags: "refuse" };

/** `int64AsNumber` is documented by cbor-x, and missing in its types. */
const DECODER_OPTIONS = { useRecords: false, mapsAsObjects: false, copyBuffers: true, int64AsNumber: true };
const DECODER = new Decoder(DECODER_OPTIONS);
const ENCODER = new Encoder({ useRecords: false, mapsAsObjects: false, tagUint8Array: false });
