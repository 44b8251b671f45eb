/**
 * Things of which many come and go, each of which knows its slot: no slot is empty, as the last one takes the place of one
 * that goes. A Set does the same, but where few are there at a time it makes a new table for every few that come, and keeps
 * alive what the old ones held until a full collection.
 */
export class SlotTable<Item extends Slotted> {
  readonly #items: Item[] = [];
  #hand = 0;

  get size(): number {
    return this.#items.length;
  }

  has(item: Item): boolean {
    return this.#items[item.slot] === item;
  }

  add(item: Item): void {
    item.slot = this.#items.length;
    this.#items.push(item);
  }

  /** Gives whether it was there. */
  delete(item: Item): boolean {
    if (!this.has(item)) return false;
    const last = this.#items.pop();
    if (last !== undefined && last !== item) {
      last.slot = item.slot;
      this.#items[item.slot] = last;
    }
    item.slot = NO_SLOT;
    return true;
  }

  /** From the last one to the first: whatever goes meanwhile, none that stays is left out; what comes meanwhile is. */
  *[Symbol.iterator](): Generator<Item> {
    for (let slot = this.#items.length - 1; slot >= 0; slot--) {
      const item = this.#items[slot];
      if (item !== undefined) yield item;
    }
  }

  /** Another one at each call, all by turns; undefined where there is none. */
  next(): Item | undefined {
    this.#hand = (this.#hand > 0 && this.#hand <= this.#items.length ? this.#hand : this.#items.length) - 1;
    return this.#items[this.#hand];
  }
}

export interface Slotted {
  /** In its table; NO_SLOT outside of one. */
  slot: number;
}

export const NO_SLOT = -1;
