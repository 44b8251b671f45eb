import type { RequestMessage } from "../exchange/messages.js";
import { CODE } from "../wire/code.js";
import { isNoCacheKey, OPTION } from "../wire/option-registry.js";

/**
 * What tells one block-wise operation from another of the same peer: the method and all options of the cache key (RFC
 * 7252 §5.6) but those of a single message (RFC 7959 §2.4, §2.5), with Request-Tag (RFC 9175 §3.3). Never the token: a client may
 * change it with each block. `ignored` names options that differ from block to block by design, such as credentials.
 */
export function operationKey({ code, options, payload }: RequestMessage, ignored: ReadonlySet<number>): string {
  let key = String(code);
  // RFC 8132 §2: a FETCH is told by its body too, which comes with each message where it is not cut itself.
  if (code === CODE.FETCH && !options.has(OPTION.Block1)) for (const byte of payload) key += String.fromCharCode(byte);
  for (const { number, value } of options) {
    if (PER_MESSAGE.has(number) || ignored.has(number) || isNoCacheKey(number)) continue;
    key += `\n${number}:`;
    for (const byte of value) key += String.fromCharCode(byte);
  }
  return key;
}

/** If-None-Match comes with the first block only (RFC 7959 §2.10). */
const PER_MESSAGE: ReadonlySet<number> = new Set([OPTION.Block1, OPTION.Block2, OPTION.Observe, OPTION.IfNoneMatch]);
