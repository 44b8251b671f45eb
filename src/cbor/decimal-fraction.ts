import { CborError } from "./errors.js";
import { readHead } from "./head.js";

/**
 * The content of tag 4 (RFC 8949 §3.4.4), `[exponent, mantissa]`, rounded once to the nearest double; undefined for a
 * mantissa that no double is as large as. The item is known to be well-formed.
 *
 * @throws CborError when it is no pair of integers.
 */
export function readDecimalFraction(bytes: Uint8Array, at: number): number | undefined {
  const pair = readHead(bytes, at);
  if (pair.major !== 4 || pair.argument !== 2) throw new CborError(`a decimal fraction has two parts, at ${at}`);
  const exponent = readHead(bytes, pair.next);
  if (exponent.major > 1) throw new CborError(`the exponent of a decimal fraction is an integer, at ${pair.next}`);
  const mantissa = readMantissa(bytes, exponent.next);
  return mantissa === undefined ? undefined : Number(`${mantissa}e${integerAt(bytes, pair.next)}`);
}

function readMantissa(bytes: Uint8Array, at: number): bigint | undefined {
  const head = readHead(bytes, at);
  if (head.major < 2) return integerAt(bytes, at);
  const isBignum = head.major === 6 && (head.argument === BIGNUM || head.argument === NEGATIVE_BIGNUM);
  const content = isBignum ? readHead(bytes, head.next) : head;
  if (!isBignum || content.major !== 2 || content.argument === Infinity)
    throw new CborError(`the mantissa of a decimal fraction is an integer, at ${at}`);
  // Past this the decimal digits cost more than the value is worth.
  if (content.argument > MAX_BIGNUM_BYTES) return undefined;
  const magnitude = bigEndian(bytes.subarray(content.next, content.next + content.argument));
  return head.argument === BIGNUM ? magnitude : -1n - magnitude;
}

function integerAt(bytes: Uint8Array, at: number): bigint {
  const { major, argument, next } = readHead(bytes, at);
  const exact = next === at + 1 ? BigInt(argument) : bigEndian(bytes.subarray(at + 1, next));
  return major === 0 ? exact : -1n - exact;
}

function bigEndian(bytes: Uint8Array): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

export const DECIMAL_FRACTION = 4;
/** Tag 55799, which only says that CBOR follows (RFC 8949 §3.4.6). */
export const SELF_DESCRIPTION: readonly number[] = [0xd9, 0xd9, 0xf7];
const BIGNUM = 2;
const NEGATIVE_BIGNUM = 3;
const MAX_BIGNUM_BYTES = 128;
