import type { Cipher } from "node:crypto";

/**
 * A bounded pool of cipher contexts, so that idle associations hold raw keys only. Eviction is by second chance, which
 * costs a use one flag, no list. Where more keys come by turns than there are places, those that have one keep it, and the
 * others' records are done alone: a place that is lost before its key comes again would cost twice as much.
 *
 * Each place has bytes for what its contexts make ahead, which stay when another key comes there: arrays of each key's own, longer
 * with every use, leave holes outside of V8's heap that nothing fits into.
 */
export class CipherPool {
  /** In keys. */
  readonly capacity: number;
  readonly #slots: (PooledKey | undefined)[];
  /** By slot, made when it is taken for the first time. */
  readonly #rooms: CipherRoom[] = [];
  /** Slots that were given back, the latest last: used again at once, so that few are new to the caches and the collector. */
  readonly #free: number[] = [];
  #hand = 0;
  #held = 0;
  /** Records, so far, of keys that had no place; of 32 bits. */
  #misses = 0;

  /** `capacity` in keys; an association has two. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.#slots = Array.from({ length: capacity }, () => undefined);
  }

  /**
   * Whether a key without a place is to have one: where any is free; where it is new; and where it comes again so soon that it
   * would still have the one that it had had.
   */
  hasPlaceFor(key: PooledKey): boolean {
    const before = this.#misses;
    this.#misses = (before + 1) | 0;
    const since = (before - key.missedAt) >>> 0;
    key.missedAt = before;
    return this.#held < this.capacity || key.slot === NEVER_PLACED || since < this.capacity;
  }

  /**
   * Finds a place for the contexts that `key` has just made, at the cost of a key not used of late. The room there is full of
   * zeros, and the key's until its contexts are dropped: it leaves zeros.
   */
  admit(key: PooledKey): CipherRoom {
    const free = this.#free.pop();
    if (free !== undefined) {
      this.#held++;
      key.slot = free;
      this.#slots[free] = key;
      return this.#roomOf(free);
    }
    for (;;) {
      const index = this.#hand;
      this.#hand = (index + 1) % this.#slots.length;
      const held = this.#slots[index];
      if (held !== undefined && held.wasUsed) {
        held.wasUsed = false;
        continue;
      }
      if (held === undefined) this.#held++;
      held?.dropContexts();
      key.slot = index;
      this.#slots[index] = key;
      return this.#roomOf(index);
    }
  }

  /** The key is of no more use: lets go of it. */
  release(key: PooledKey): void {
    if (key.slot >= 0 && this.#slots[key.slot] === key) {
      this.#slots[key.slot] = undefined;
      this.#held--;
      this.#free.push(key.slot);
    }
    key.dropContexts();
  }

  #roomOf(slot: number): CipherRoom {
    let room = this.#rooms[slot];
    if (room === undefined) {
      // The hand comes by in order.
      this.#rooms.push(...rooms(Math.min(ROOMS_AT_ONCE, this.#slots.length - slot)));
      room = this.#rooms[slot];
    }
    if (room === undefined) throw new RangeError(`no slot ${String(slot)}`);
    return room;
  }
}

/** Bytes of one slot, outside of V8's heap. */
export interface CipherRoom {
  /** A block: the last MAC. */
  readonly chained: Uint8Array;
  /** Key stream for records to come. */
  readonly ahead: Uint8Array;
}

export interface PooledKey {
  wasUsed: boolean;
  /** Its place; NEVER_PLACED, or below 0 where it has lost it. */
  slot: number;
  /** The pool's misses when it had no place last. */
  missedAt: number;
  dropContexts(): void;
}

/**
 * Wipes the key schedule and gives its memory back, 1 kB outside of V8's heap, of which V8 does not know: left to its collector,
 * contexts would pile up for as long as it finds the 100 bytes of their objects not worth a collection.
 */
export function endContext(context: Cipher): void {
  context.final();
}

function rooms(count: number): CipherRoom[] {
  const bytes = new Uint8Array(count * (BLOCK + AHEAD_BYTES));
  return Array.from({ length: count }, (_, index) => {
    const at = index * (BLOCK + AHEAD_BYTES);
    return { chained: bytes.subarray(at, at + BLOCK), ahead: bytes.subarray(at + BLOCK, at + BLOCK + AHEAD_BYTES) };
  });
}

export const NEVER_PLACED = -2;
const BLOCK = 16;
/** 16 records of up to 48 bytes. */
const AHEAD_BYTES: number = 16 * 4 * BLOCK;
const ROOMS_AT_ONCE = 64;

/**
 * Shared by all associations of the process: 3.5 kB a key at most, 14 MB in all. With more associations that are busy by
 * turns, records of those without a place are done alone.
 */
export const CIPHER_POOL: CipherPool = new CipherPool(4096);
