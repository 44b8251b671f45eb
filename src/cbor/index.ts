export { LANGUAGE_TAGGED } from "./plain.js";
export { Tag as CborTag } from "cbor-x";
export { decodeCbor, encodeCbor } from "./codec.js";
export { CborError } from "./errors.js";
