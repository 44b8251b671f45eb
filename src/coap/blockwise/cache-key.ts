import type { RequestMessage } from "../exchange/messages.js";
import { CODE } from "../wire/code.js";
import { isNoCacheKey, OPTION } from "../wire/option-registry.js";

/**
 * What tells one block-wise operation from another of the same peer: the method and all options of the cache key (RFC
 * 7252 §5.6) but those of a single message (RFC 7959 §2.4, §2.5), with Request-Tag (RFC 9175 §3.3). Never the token: a client may
 * change it with each block. `principal` tells users of one peer apart; `ignored` names options that differ from block to
 * block by design, such as credentials.
 */
export function operationKey(
  { code, options, payload }: RequestMessage,
  ignored: ReadonlySet<number>,
  principal = "",
): string {
  // Each part with its length: no value reads as the end of itself and the beginning of another.
  const parts = [`${principal.length} ${principal} ${code}`];
  // RFC 8132 §2: a FETCH is told by its body too, which comes with each message where it is not cut itself.
  if (code === CODE.FETCH && !options.has(OPTION.Block1)) addBytes(parts, "body", payload);
  for (const { number, value } of options) {
    if (PER_MESSAGE.has(number) || ignored.has(number) || isNoCacheKey(number)) continue;
    addBytes(parts, String(number), value);
  }
  // Joined, it takes a byte a character; put together by +, V8 keeps it as a tree of 32 bytes for each.
  return parts.join("");
}

function addBytes(parts: string[], name: string, bytes: Uint8Array): void {
  parts.push(` ${name} ${bytes.length} `);
  for (let at = 0; at < bytes.length; at += PIECE_BYTES)
    parts.push(String.fromCharCode(...bytes.subarray(at, at + PIECE_BYTES)));
}

/** So many arguments a call takes without growing its stack much. */
const PIECE_BYTES = 1024;
/** If-None-Match comes with the first block only (RFC 7959 §2.10). */
const PER_MESSAGE: ReadonlySet<number> = new Set([OPTION.Block1, OPTION.Block2, OPTION.Observe, OPTION.IfNoneMatch]);
