/**
 * A bounded pool of cipher contexts, so that idle associations hold raw keys only. Eviction is by second chance, which
 * costs a use one flag, no list.
 */
export class CipherPool {
  readonly #slots: (PooledKey | undefined)[];
  #hand = 0;

  /** `capacity` in keys; an association has two. */
  constructor(capacity: number) {
    this.#slots = Array.from({ length: capacity }, () => undefined);
  }

  /** Finds a place for the contexts that `key` has just made, at the cost of a key not used of late. */
  admit(key: PooledKey): void {
    for (;;) {
      const index = this.#hand;
      this.#hand = (index + 1) % this.#slots.length;
      const held = this.#slots[index];
      if (held !== undefined && held.wasUsed) {
        held.wasUsed = false;
        continue;
      }
      held?.dropContexts();
      key.slot = index;
      this.#slots[index] = key;
      return;
    }
  }

  /** The key is of no more use: lets go of it. */
  release(key: PooledKey): void {
    if (key.slot >= 0 && this.#slots[key.slot] === key) this.#slots[key.slot] = undefined;
    key.dropContexts();
  }
}

export interface PooledKey {
  wasUsed: boolean;
  slot: number;
  dropContexts(): void;
}

/** Shared by all associations of the process. */
export const CIPHER_POOL: CipherPool = new CipherPool(2048);
