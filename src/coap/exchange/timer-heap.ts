/**
 * A binary min-heap of timers. An item is cancelled or moved by changing its own `timerAt`: entries that no longer
 * agree with it are dropped when they come up, so that the common case, cancelling, costs nothing.
 */
export class TimerHeap<T extends Timed> {
  readonly #entries: Entry<T>[] = [];

  schedule(item: T, at: number): void {
    item.timerAt = at;
    const entries = this.#entries;
    let index = entries.push({ at, item }) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#at(parent) <= at) break;
      this.#swap(index, parent);
      index = parent;
    }
  }

  /** The time of the earliest live timer. */
  next(): number | undefined {
    this.#dropStale();
    return this.#entries[0]?.at;
  }

  /** Takes the earliest item that is due at `now`. */
  take(now: number): T | undefined {
    this.#dropStale();
    const first = this.#entries[0];
    if (first === undefined || first.at > now) return undefined;
    this.#removeFirst();
    first.item.timerAt = undefined;
    return first.item;
  }

  #dropStale(): void {
    for (
      let first = this.#entries[0];
      first !== undefined && first.item.timerAt !== first.at;
      first = this.#entries[0]
    ) {
      this.#removeFirst();
    }
  }

  #removeFirst(): void {
    const entries = this.#entries;
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return;
    entries[0] = last;
    for (let index = 0; ;) {
      const left = index * 2 + 1;
      const child = this.#at(left + 1) < this.#at(left) ? left + 1 : left;
      if (this.#at(child) >= this.#at(index)) break;
      this.#swap(index, child);
      index = child;
    }
  }

  #at(index: number): number {
    return this.#entries[index]?.at ?? Infinity;
  }

  #swap(a: number, b: number): void {
    const first = this.#entries[a];
    const second = this.#entries[b];
    if (first === undefined || second === undefined) return;
    this.#entries[a] = second;
    this.#entries[b] = first;
  }
}

export interface Timed {
  /** When the item's timer fires, in ms; undefined while it has none. */
  timerAt: number | undefined;
}

interface Entry<T> {
  readonly at: number;
  readonly item: T;
}
