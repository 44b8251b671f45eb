export { SenmlError, type SenmlErrorCode } from "./errors.js";
export {
  checkName,
  decodePack,
  DEFAULT_PACK_LIMITS,
  encodePack,
  FIRST_ABSOLUTE_TIME_SECONDS,
  type PackLimits,
  type SenmlRecord,
  type SenmlValue,
} from "./pack.js";
export type { SenmlFormat } from "./wire.js";
