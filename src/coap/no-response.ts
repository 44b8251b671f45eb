import { OPTION } from "./wire/option-registry.js";
import type { Options } from "./wire/options.js";

/** Whether the request says that it does not want a response of this code (RFC 7967 §2.1). */
export function isUnwanted(requestOptions: Options, responseCode: number): boolean {
  const disinterest = requestOptions.uint(OPTION.NoResponse);
  return disinterest !== undefined && (disinterest & (1 << ((responseCode >> 5) - 1))) !== 0;
}

/** Whether the request wants no response of any class: none is to be waited for. */
export function wantsNoResponse(requestOptions: Options): boolean {
  return ((requestOptions.uint(OPTION.NoResponse) ?? 0) & NO_RESPONSE_AT_ALL) === NO_RESPONSE_AT_ALL;
}

/** The value of No-Response that suppresses responses of all classes: 2.xx, 4.xx and 5.xx. */
export const NO_RESPONSE_AT_ALL = 26;
