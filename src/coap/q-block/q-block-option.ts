import { CoapError } from "../errors.js";
import { type Block, decodeBlock, encodeBlock } from "../wire/block.js";
import { OPTION } from "../wire/option-registry.js";
import type { Options } from "../wire/options.js";
import { encodeUint } from "../wire/uint.js";

/** The request's or the acknowledged payload (RFC 9177 §4.2). @throws CoapError COAP_BAD_OPTION; the size exponent 7 is none here. */
export function qBlock1Of(options: Options): Block | undefined {
  const value = options.get(OPTION.QBlock1);
  return value === undefined ? undefined : decoded(value);
}

/** Of a response one; of a request all that are asked for, in ascending order (§4.4). @throws CoapError COAP_BAD_OPTION. */
export function qBlocks2Of(options: Options): readonly Block[] {
  const blocks = options.getAll(OPTION.QBlock2).map((value) => decoded(value));
  for (const [index, block] of blocks.entries()) {
    const before = blocks[index - 1];
    if (before !== undefined && (before.number >= block.number || before.sizeBytes !== block.sizeBytes))
      throw new CoapError("COAP_BAD_OPTION", "the Q-Block2 options of a request are not in order, or not of one size");
  }
  return blocks;
}

export function withQBlock1(options: Options, block: Block): Options {
  return options.with(OPTION.QBlock1, encodeBlock(block));
}

export function withQBlocks2(options: Options, blocks: readonly Block[]): Options {
  return options.withAll(
    OPTION.QBlock2,
    blocks.map((block) => encodeUint(encodeBlock(block))),
  );
}

function decoded(value: Uint8Array): Block {
  const block = decodeBlock(value);
  if (block.isBert === true) throw new CoapError("COAP_BAD_OPTION", "RFC 9177 §4.2: the size exponent 7 is reserved");
  return block;
}

/** A CBOR sequence of block numbers (RFC 9177 §5): as many of them as fit. */
export function encodeMissing(numbers: readonly number[], maxBytes: number): Uint8Array {
  const bytes: number[] = [];
  for (const number of numbers) {
    const encoded =
      number < 24
        ? [number]
        : number < 0x100
          ? [0x18, number]
          : number < 0x1_0000
            ? [0x19, number >> 8, number & 0xff]
            : [0x1a, 0, number >> 16, (number >> 8) & 0xff, number & 0xff];
    if (bytes.length + encoded.length > maxBytes) break;
    bytes.push(...encoded);
  }
  return Uint8Array.from(bytes);
}

/** §5: what is no unsigned number ends the reading; numbers may come in any order and twice. */
export function decodeMissing(payload: Uint8Array): readonly number[] {
  const numbers: number[] = [];
  for (let at = 0; at < payload.length;) {
    const head = payload[at++] ?? 0xff;
    const more = head < 24 ? 0 : head <= 0x1a ? 1 << (head - 24) : -1;
    if (more < 0 || at + more > payload.length) return numbers;
    let number = head < 24 ? head : 0;
    for (let index = 0; index < more; index++) number = number * 256 + (payload[at++] ?? 0);
    numbers.push(number);
  }
  return numbers;
}
