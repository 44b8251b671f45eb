export { type CborLimits, LANGUAGE_TAGGED } from "./plain.js";
export { Tag as CborTag } from "cbor-x";
export { decodeCbor, DEFAULT_CBOR_LIMITS, encodeCbor } from "./codec.js";
export { CborError } from "./errors.js";
