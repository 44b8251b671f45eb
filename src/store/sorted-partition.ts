import type { Entry, Range } from "./backend.js";

/** Entries in order of their keys, in memory. */
export class SortedPartition {
  readonly #values = new Map<string, Uint8Array>();
  readonly #keys: string[] = [];

  get size(): number {
    return this.#keys.length;
  }

  get(key: string): Uint8Array | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: Uint8Array): void {
    if (!this.#values.has(key)) this.#keys.splice(this.#indexOf(key), 0, key);
    this.#values.set(key, value);
  }

  delete(key: string): void {
    if (this.#values.delete(key)) this.#keys.splice(this.#indexOf(key), 1);
  }

  range({ from, after, before, limit, isReverse = false }: Range): readonly Entry[] {
    const start = Math.max(
      from === undefined ? 0 : this.#indexOf(from),
      after === undefined ? 0 : this.#indexOf(after) + (this.#values.has(after) ? 1 : 0),
    );
    const end = before === undefined ? this.#keys.length : this.#indexOf(before);
    if (start >= end) return [];
    const keys = isReverse
      ? this.#keys.slice(Math.max(start, end - limit), end).toReversed()
      : this.#keys.slice(start, Math.min(end, start + limit));
    return keys.flatMap((key) => {
      const value = this.#values.get(key);
      return value === undefined ? [] : [{ key, value }];
    });
  }

  /** Where a key stands, or would. Most come in order, so the end is looked at first. */
  #indexOf(key: string): number {
    const last = this.#keys.at(-1);
    if (last === undefined || key > last) return this.#keys.length;
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#keys[middle] ?? "") < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
