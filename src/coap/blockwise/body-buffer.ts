/**
 * A body that grows block by block in one buffer, so that small blocks cost no more memory than their bytes. Its capacity
 * is what it takes up: less than twice what it holds.
 */
export class BodyBuffer {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacityBytes: number) {
    this.#bytes = new Uint8Array(capacityBytes);
  }

  get length(): number {
    return this.#length;
  }

  get capacityBytes(): number {
    return this.#bytes.length;
  }

  /** The capacity that appending this many bytes takes. */
  capacityWith(moreBytes: number): number {
    const needed = this.#length + moreBytes;
    return needed <= this.#bytes.length ? this.#bytes.length : Math.max(needed, this.#bytes.length * 2);
  }

  append(block: Uint8Array): void {
    const capacity = this.capacityWith(block.length);
    if (capacity > this.#bytes.length) {
      const grown = new Uint8Array(capacity);
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(block, this.#length);
    this.#length += block.length;
  }

  /** The body: a view, the caller's to keep when nothing more is appended. */
  body(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}
