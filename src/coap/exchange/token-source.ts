import { CoapError } from "../errors.js";
import { MAX_TOKEN_BYTES } from "../wire/message.js";

/** Where an endpoint's tokens come from, one for each exchange. */
export type TokenSource = () => Uint8Array;

/** Tokens that nobody can guess, and that are not used again (RFC 7252 §5.3.1, RFC 9175 §4). */
export function randomTokens(random: (size: number) => Uint8Array): TokenSource {
  return () => random(MAX_TOKEN_BYTES);
}

/** Tokens that count up from this one, and come around. @throws CoapError COAP_INVALID_MESSAGE for a length of none, or above 8. */
export function countedTokens(first: Uint8Array): TokenSource {
  if (first.length < 1 || first.length > MAX_TOKEN_BYTES)
    throw new CoapError("COAP_INVALID_MESSAGE", `a first token has 1 to ${MAX_TOKEN_BYTES} bytes, not ${first.length}`);
  const next = Uint8Array.from(first);
  return () => {
    const token = Uint8Array.from(next);
    for (let index = next.length - 1; index >= 0; index--) {
      const byte = ((next[index] ?? 0) + 1) & 0xff;
      next[index] = byte;
      if (byte !== 0) break;
    }
    return token;
  };
}

/** The number in as few bytes as it takes, at least one. */
export function shortestToken(count: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = count; rest > 0 || bytes.length === 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Uint8Array.from(bytes);
}
