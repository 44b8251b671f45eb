export { decodePack } from "./decode-pack.js";
export { checkRecord, encodePack } from "./encode-pack.js";
export { SenmlError, type SenmlErrorCode } from "./errors.js";
export { decodeFetchPack, encodeFetchPack, type FetchRecord, selectRecords } from "./fetch-pack.js";
export { isoTime } from "./iso-time.js";
export { DEFAULT_PACK_LIMITS, type PackLimits } from "./pack-limits.js";
export { checkName, FIRST_ABSOLUTE_TIME_SECONDS, type SenmlRecord, type SenmlValue } from "./senml-record.js";
export { isWellFormed, type SenmlFormat } from "./wire.js";
