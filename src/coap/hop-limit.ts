import { OPTION } from "./wire/option-registry.js";
import type { Options } from "./wire/options.js";

/**
 * What a proxy forwards of a request's options (RFC 8768 §3): Hop-Limit one less, or `initial` where there was none.
 * undefined: the limit is reached, and the request to be answered with 5.08 Hop Limit Reached.
 */
export function forwardedHopLimit(options: Options, initial: number = DEFAULT_HOP_LIMIT): Options | undefined {
  const hopLimit = options.uint(OPTION.HopLimit);
  if (hopLimit === undefined) return options.with(OPTION.HopLimit, initial);
  // §3: 0 is malformed; such an option never reaches here with a length of 0.
  return hopLimit <= 1 ? undefined : options.with(OPTION.HopLimit, hopLimit - 1);
}

/** RFC 8768 §3 */
export const DEFAULT_HOP_LIMIT = 16;
