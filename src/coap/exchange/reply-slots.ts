/**
 * Short replies to requests, each in a slot of the same size. Nearly every reply is short, and no duplicate ever asks for it: an
 * array of its own would take 200 bytes besides, for all of the lifetime, and leave work for the collector of garbage.
 *
 * Slots are cut from blocks of one size, which are added as they are needed, and go when no reply is left. A slot's number is that
 * of its first byte, counted through all blocks.
 */
export class ReplySlots {
  readonly #slotBytes: number;
  readonly #blocks: Uint8Array[] = [];
  /** The one freed last is taken first: it is in the processor's caches. */
  readonly #free: number[] = [];

  /** @param slotBytes a power of two. */
  constructor(slotBytes: number) {
    this.#slotBytes = slotBytes;
  }

  /** Copies a reply, which is no longer than a slot, to one. */
  take(reply: Uint8Array): number {
    const slot = this.#free.pop() ?? this.#added();
    const block = this.#blockOf(slot);
    let index = slot & IN_BLOCK;
    for (let from = 0; from < reply.length; from++) block[index++] = reply[from] ?? 0;
    return slot;
  }

  /** Fills the array from the slot. */
  copyTo(reply: Uint8Array, slot: number): void {
    const start = slot & IN_BLOCK;
    reply.set(this.#blockOf(slot).subarray(start, start + reply.length));
  }

  free(slot: number): void {
    this.#free.push(slot);
    const blocks = this.#blocks.length;
    if (blocks === 1 || this.#free.length * this.#slotBytes < blocks * BLOCK_BYTES) return;
    this.#blocks.length = 0;
    this.#free.length = 0;
  }

  /** A new block, of which one slot is taken. */
  #added(): number {
    const first = this.#blocks.length * BLOCK_BYTES;
    this.#blocks.push(new Uint8Array(BLOCK_BYTES));
    for (let slot = first + BLOCK_BYTES - this.#slotBytes; slot > first; slot -= this.#slotBytes) this.#free.push(slot);
    return first;
  }

  #blockOf(slot: number): Uint8Array {
    return this.#blocks[slot >> BLOCK_BITS] ?? NO_BLOCK;
  }
}

const BLOCK_BITS = 13;
const BLOCK_BYTES = 1 << BLOCK_BITS;
const IN_BLOCK = BLOCK_BYTES - 1;
const NO_BLOCK = new Uint8Array(0);
