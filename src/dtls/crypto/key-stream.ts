import type { Cipher } from "node:crypto";

/**
 * The key stream of CCM, S_i = E(K, A_i) (RFC 3610 §2.3), for the records that will come next as well: a call of a cipher
 * object costs 1.7 µs for 48 bytes and 2.9 µs for 1,536, so that a record in a row with the one before costs next to none.
 *
 * The last 4 bytes of the nonce are a counter in practice (RFC 6655 §3: epoch ‖ sequence number). Nothing depends on it:
 * another nonce gets its own stream, and no more ahead than was used of late.
 */
export class KeyStream {
  /** Where `seek` points into; S_0 first. */
  bytes: Uint8Array = NONE;
  readonly #ecb: Cipher;
  // The first 8 bytes of the nonces; the last 4 of the first one.
  #head = 0;
  #middle = 0;
  #first = 0;
  #records = 0;
  #blocks = 0;

  /** `ecb`: AES in ECB mode. */
  constructor(ecb: Cipher) {
    this.#ecb = ecb;
  }

  /** Where in `bytes` the stream of this nonce of 12 bytes stands, valid until the next call: `blocks` of 16 bytes. */
  seek(nonce: Uint8Array, blocks: number): number {
    const head = word(nonce, 0);
    const middle = word(nonce, 4);
    const counter = word(nonce, 8) >>> 0;
    const index = head === this.#head && middle === this.#middle ? counter - this.#first : -1;
    if (index >= 0 && index < this.#records && blocks <= this.#blocks) return index * this.#blocks * BLOCK;
    const isInARow = index >= this.#records && index < this.#records + TOLERATED_GAP;
    const each = isInARow ? Math.max(blocks, this.#blocks) : blocks;
    const ahead = isInARow ? this.#records * 2 : this.#records === 0 ? FIRST_RECORDS : 1;
    const wanted = Math.min(ahead, MAX_RECORDS, 2 ** 32 - counter);
    this.#head = head;
    this.#middle = middle;
    this.#first = counter;
    this.#blocks = each;
    this.#records = Math.max(1, Math.min(wanted, Math.floor(MAX_BLOCKS / each)));
    this.bytes = this.#ecb.update(counterBlocks(nonce, counter, this.#records, each));
    return 0;
  }
}

/** A_i = flags ‖ nonce ‖ i, where L is 3. */
function counterBlocks(nonce: Uint8Array, first: number, records: number, blocks: number): Uint8Array {
  const total = records * blocks * BLOCK;
  const counters = SCRATCH_VIEWS[records * blocks] ?? new Uint8Array(total);
  let at = 0;
  for (let record = 0; record < records; record++) {
    const counter = first + record;
    for (let block = 0; block < blocks; block++, at += BLOCK) {
      counters[at] = 2;
      for (let i = 0; i < 8; i++) counters[at + 1 + i] = nonce[i] ?? 0;
      counters[at + 9] = counter >>> 24;
      counters[at + 10] = counter >>> 16;
      counters[at + 11] = counter >>> 8;
      counters[at + 12] = counter;
      counters[at + 13] = block >> 16;
      counters[at + 14] = block >> 8;
      counters[at + 15] = block;
    }
  }
  return counters;
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
}

const BLOCK = 16;
/** Ahead at most, and at most this many blocks: what is never used must cost little. */
const MAX_RECORDS = 32;
const MAX_BLOCKS = 96;
/** A handshake leaves two records in each direction: Finished, and the close_notify or first data. */
const FIRST_RECORDS = 2;
/** Records lost on the way do not end a row. */
const TOLERATED_GAP = 8;
const NONE = new Uint8Array(0);
// Scratch space of the process: nothing is kept in it between calls, and no call is re-entered.
const SCRATCH: Uint8Array = new Uint8Array(MAX_BLOCKS * BLOCK);
/** By the number of blocks. */
const SCRATCH_VIEWS: readonly Uint8Array[] = Array.from({ length: MAX_BLOCKS + 1 }, (_, blocks) =>
  SCRATCH.subarray(0, blocks * BLOCK),
);
