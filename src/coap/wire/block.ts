import { CoapError } from "../errors.js";

/** A Block1 or Block2 option (RFC 7959 §2.2). */
export interface Block {
  /** 0 to 2^20 − 1, in units of this block's size. */
  readonly number: number;
  readonly hasMore: boolean;
  /** 16 to 1024, a power of two. */
  readonly sizeBytes: number;
}

/** @throws CoapError COAP_BAD_OPTION for more than 3 bytes, or the reserved size exponent 7. */
export function decodeBlock(value: Uint8Array): Block {
  if (value.length > 3) throw new CoapError("COAP_BAD_OPTION", "a Block option has 3 bytes at most");
  let bits = 0;
  for (const byte of value) bits = (bits << 8) | byte;
  const exponent = bits & 7;
  if (exponent === 7) throw new CoapError("COAP_BAD_OPTION", "block size exponent 7 is reserved (RFC 7959 §2.2)");
  return { number: bits >> 4, hasMore: (bits & 8) !== 0, sizeBytes: 16 << exponent };
}

/** The option's value, as the uint that it is. @throws CoapError COAP_INVALID_MESSAGE outside the ranges of {@link Block}. */
export function encodeBlock(block: Block): number {
  const exponent = BLOCK_SIZES_BYTES.indexOf(block.sizeBytes);
  if (exponent < 0 || !Number.isInteger(block.number) || block.number < 0 || block.number > MAX_BLOCK_NUMBER) {
    throw new CoapError("COAP_INVALID_MESSAGE", `no such block: number ${block.number}, size ${block.sizeBytes}`);
  }
  return block.number * 16 + (block.hasMore ? 8 : 0) + exponent;
}

export const MAX_BLOCK_NUMBER = 0xf_ffff;
export const BLOCK_SIZES_BYTES: readonly number[] = [16, 32, 64, 128, 256, 512, 1024];
