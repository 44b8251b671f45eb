/**
 * Short replies to requests, each in a slot of the same size. Nearly every reply is short, and no duplicate ever asks for it: an
 * array of its own would take 200 bytes besides, for all of the lifetime, and leave work for the collector of garbage.
 *
 * Slots are cut from blocks of one size, which are added as they are needed, and go when no reply is left.
 */
export class ReplySlots {
  readonly #slotBytes: number;
  readonly #blocks: Uint8Array[] = [];
  /** The one freed last is taken first: it is in the processor's caches. */
  readonly #free: number[] = [];

  constructor(slotBytes: number) {
    this.#slotBytes = slotBytes;
  }

  /** Copies a reply, which is no longer than a slot, to one. */
  take(reply: Uint8Array): number {
    const slot = this.#free.pop() ?? this.#added();
    const block = this.#blockOf(slot);
    let index = this.#startOf(slot);
    for (let from = 0; from < reply.length; from++) block[index++] = reply[from] ?? 0;
    return slot;
  }

  /** Fills the array from the slot. */
  copyTo(reply: Uint8Array, slot: number): void {
    const start = this.#startOf(slot);
    reply.set(this.#blockOf(slot).subarray(start, start + reply.length));
  }

  free(slot: number): void {
    this.#free.push(slot);
    if (this.#blocks.length === 1 || this.#free.length < this.#blocks.length * SLOTS_A_BLOCK) return;
    this.#blocks.length = 0;
    this.#free.length = 0;
  }

  /** A new block, of which one slot is taken. */
  #added(): number {
    const first = this.#blocks.length * SLOTS_A_BLOCK;
    this.#blocks.push(new Uint8Array(SLOTS_A_BLOCK * this.#slotBytes));
    for (let slot = first + SLOTS_A_BLOCK - 1; slot > first; slot--) this.#free.push(slot);
    return first;
  }

  #blockOf(slot: number): Uint8Array {
    return this.#blocks[Math.floor(slot / SLOTS_A_BLOCK)] ?? NO_BLOCK;
  }

  /** Where it begins in its block. */
  #startOf(slot: number): number {
    return (slot % SLOTS_A_BLOCK) * this.#slotBytes;
  }
}

const SLOTS_A_BLOCK = 256;
const NO_BLOCK = new Uint8Array(0);
