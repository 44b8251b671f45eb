export type { CborLimits } from "./plain.js";
export { decodeCbor, DEFAULT_CBOR_LIMITS, encodeCbor } from "./codec.js";
export { CborError } from "./errors.js";
