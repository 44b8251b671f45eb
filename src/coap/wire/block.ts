import { CoapError } from "../errors.js";

/** A Block1 or Block2 option (RFC 7959 §2.2). */
export interface Block {
  /** 0 to 2^20 − 1, in units of this block's size. */
  readonly number: number;
  readonly hasMore: boolean;
  /** 16 to 1024, a power of two. */
  readonly sizeBytes: number;
  /** BERT (RFC 8323 §6), on reliable transports only: a block may hold several of 1024 bytes, which is what it counts in. */
  readonly isBert?: boolean;
}

/** @throws CoapError COAP_BAD_OPTION for more than 3 bytes. Size exponent 7 is BERT, which datagrams do not have. */
export function decodeBlock(value: Uint8Array): Block {
  if (value.length > 3) throw new CoapError("COAP_BAD_OPTION", "a Block option has 3 bytes at most");
  let bits = 0;
  for (const byte of value) bits = (bits << 8) | byte;
  const exponent = bits & 7;
  if (exponent === 7) return { number: bits >> 4, hasMore: (bits & 8) !== 0, sizeBytes: BERT_UNIT_BYTES, isBert: true };
  return { number: bits >> 4, hasMore: (bits & 8) !== 0, sizeBytes: 16 << exponent };
}

/** The option's value, as the uint that it is. @throws CoapError COAP_INVALID_MESSAGE outside the ranges of {@link Block}. */
export function encodeBlock(block: Block): number {
  const exponent = block.isBert === true ? 7 : BLOCK_SIZES_BYTES.indexOf(block.sizeBytes);
  if (exponent < 0 || !Number.isInteger(block.number) || block.number < 0 || block.number > MAX_BLOCK_NUMBER) {
    throw new CoapError("COAP_INVALID_MESSAGE", `no such block: number ${block.number}, size ${block.sizeBytes}`);
  }
  return block.number * 16 + (block.hasMore ? 8 : 0) + exponent;
}

/** The block at `offset` of a body that is cut into this many bytes: a power of two, or a multiple of 1024 for BERT. */
export function blockAt(offset: number, hasMore: boolean, cutBytes: number): Block {
  if (cutBytes <= BERT_UNIT_BYTES) return { number: offset / cutBytes, hasMore, sizeBytes: cutBytes };
  return { number: offset / BERT_UNIT_BYTES, hasMore, sizeBytes: BERT_UNIT_BYTES, isBert: true };
}

/** Whether this many bytes are what the block may hold: only the last is short (RFC 7959 §2.2). */
export function isFull({ hasMore, sizeBytes, isBert }: Block, bytes: number): boolean {
  if (isBert === true) return !hasMore || (bytes > 0 && bytes % sizeBytes === 0);
  return hasMore ? bytes === sizeBytes : bytes <= sizeBytes;
}

/** Whether a body can be cut so: into a size of RFC 7959, or into multiples of 1024 bytes where BERT may be used. */
export function isCutSize(bytes: number, mayBeBert: boolean): boolean {
  return BLOCK_SIZES_BYTES.includes(bytes) || (mayBeBert && bytes > 0 && bytes % BERT_UNIT_BYTES === 0);
}

export const BERT_UNIT_BYTES = 1024;
export const MAX_BLOCK_NUMBER = 0xf_ffff;
export const BLOCK_SIZES_BYTES: readonly number[] = [16, 32, 64, 128, 256, 512, 1024];
