import { type Block, isFull } from "../wire/block.js";

/** The blocks of one body, in the order of their arrival. What it takes up is what has come, wherever that stands. */
export class BlockSet {
  readonly sizeBytes: number;
  readonly #blocks = new Map<number, Uint8Array>();
  #count: number | undefined;
  #bytes = 0;
  #highest = -1;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** What it takes up: short blocks more than their bytes. */
  get heldBytes(): number {
    return this.#bytes + this.#blocks.size * BLOCK_COST_BYTES;
  }

  /** Blocks of the whole body, where the last one has come. */
  get count(): number | undefined {
    return this.#count;
  }

  get highest(): number {
    return this.#highest;
  }

  get isWhole(): boolean {
    return this.#count !== undefined && this.#blocks.size === this.#count;
  }

  has(number: number): boolean {
    return this.#blocks.has(number);
  }

  /** "misfit": not of this body, by its size or by where the body ends. The bytes are copied. */
  add(block: Block, payload: Uint8Array): "new" | "known" | "misfit" {
    const { number, hasMore, sizeBytes } = block;
    if (sizeBytes !== this.sizeBytes || !isFull(block, payload.length)) return "misfit";
    const isPast = this.#count !== undefined && (number >= this.#count || hasMore !== number < this.#count - 1);
    if (isPast || (!hasMore && number < this.#highest)) return "misfit";
    if (this.#blocks.has(number)) return "known";
    this.#blocks.set(number, Uint8Array.from(payload));
    this.#bytes += payload.length;
    this.#highest = Math.max(this.#highest, number);
    if (!hasMore) this.#count = number + 1;
    return "new";
  }

  /** Numbers below `end` that have not come, the lowest first, so many at most. */
  missing(end: number, limit: number): number[] {
    const numbers: number[] = [];
    for (let number = 0; number < end && numbers.length < limit; number++)
      if (!this.#blocks.has(number)) numbers.push(number);
    return numbers;
  }

  body(): Uint8Array {
    const body = new Uint8Array(this.#bytes);
    for (const [number, block] of this.#blocks) body.set(block, number * this.sizeBytes);
    return body;
  }
}

/** An array and its entry in the map, measured. */
const BLOCK_COST_BYTES = 232;
