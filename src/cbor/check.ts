import { CborError } from "./errors.js";

/**
 * Checks that `bytes` are one well-formed CBOR item (RFC 8949) of plain data: numbers, text in UTF-8, byte strings, booleans,
 * null, arrays and maps without duplicate keys. Tags are refused, and so are lengths beyond the bytes that are there, before
 * anything is allocated for them: a general decoder may then be given the bytes, whatever it does with tags.
 *
 * @throws CborError
 */
export function checkPlainCbor(bytes: Uint8Array, limits: CborLimits): void {
  const end = new Scanner(bytes, limits).item(0, 1);
  if (end !== bytes.length) throw new CborError(`bytes after the item, from ${end} on`);
}

export interface CborLimits {
  /** Arrays and maps within one another. */
  readonly maxDepth: number;
  /** Items in all, keys and values counted. */
  readonly maxItems: number;
}

class Scanner {
  readonly #bytes: Uint8Array;
  readonly #limits: CborLimits;
  #items = 0;

  constructor(bytes: Uint8Array, limits: CborLimits) {
    this.#bytes = bytes;
    this.#limits = limits;
  }

  /** Returns where the item at `at` ends. */
  item(at: number, depth: number): number {
    if (++this.#items > this.#limits.maxItems) throw new CborError(`more than ${this.#limits.maxItems} items`);
    const first = this.#byte(at);
    const major = first >> 5;
    const isIndefinite = (first & 31) === 31 && major >= 2 && major <= 5;
    const { argument, next } = isIndefinite ? { argument: Infinity, next: at + 1 } : this.#head(at);
    switch (major) {
      case 0:
      case 1:
        return next;
      case 2:
      case 3:
        if (isIndefinite) throw new CborError(`a string in pieces at ${at}`);
        return this.#string(at, next, argument, major === 3);
      case 4:
      case 5:
        if (depth > this.#limits.maxDepth) throw new CborError(`nested deeper than ${this.#limits.maxDepth} at ${at}`);
        return major === 4 ? this.#array(next, argument, depth) : this.#map(next, argument, depth);
      case 6:
        throw new CborError(`a tag at ${at}`);
      default:
        return this.#simple(at, next);
    }
  }

  #array(start: number, count: number, depth: number): number {
    let at = start;
    for (let index = 0; index < count; index++) {
      if (count === Infinity && this.#byte(at) === BREAK) return at + 1;
      at = this.item(at, depth + 1);
    }
    return at;
  }

  #map(start: number, count: number, depth: number): number {
    const keys = new Set<string>();
    let at = start;
    for (let index = 0; index < count; index++) {
      if (count === Infinity && this.#byte(at) === BREAK) return at + 1;
      if (this.#byte(at) >> 5 > 3) throw new CborError(`a map key that is no number or string at ${at}`);
      const keyEnd = this.item(at, depth + 1);
      const key = String.fromCharCode(...this.#bytes.subarray(at, Math.min(keyEnd, at + MAX_KEY_BYTES + 1)));
      if (keyEnd - at > MAX_KEY_BYTES) throw new CborError(`a map key longer than ${MAX_KEY_BYTES} bytes at ${at}`);
      if (keys.has(key)) throw new CborError(`a map key twice at ${at}`);
      keys.add(key);
      at = this.item(keyEnd, depth + 1);
    }
    return at;
  }

  #string(at: number, start: number, length: number, isText: boolean): number {
    const end = start + length;
    if (end > this.#bytes.length) throw new CborError(`a string cut off at ${at}`);
    if (isText) {
      try {
        STRICT_TEXT.decode(this.#bytes.subarray(start, end));
      } catch {
        throw new CborError(`text that is not UTF-8 at ${at}`);
      }
    }
    return end;
  }

  /** false, true, null, undefined, and floats of 2, 4 and 8 bytes. */
  #simple(at: number, next: number): number {
    const value = this.#byte(at) & 31;
    if (value < 20 || value === 24 || value > 27) throw new CborError(`a simple value that is not understood at ${at}`);
    return next;
  }

  /** RFC 8949 §3: an argument in the head itself, or in 1, 2, 4 or 8 bytes after it. */
  #head(at: number): { readonly argument: number; readonly next: number } {
    const information = this.#byte(at) & 31;
    if (information < 24) return { argument: information, next: at + 1 };
    if (information > 27) throw new CborError(`a reserved head at ${at}`);
    const length = 1 << (information - 24);
    let argument = 0;
    for (let index = 1; index <= length; index++) argument = argument * 256 + this.#byte(at + index);
    return { argument, next: at + 1 + length };
  }

  #byte(at: number): number {
    const byte = this.#bytes[at];
    if (byte === undefined) throw new CborError(`cut off at ${at}`);
    return byte;
  }
}

const BREAK = 0xff;
const MAX_KEY_BYTES = 64;
const STRICT_TEXT = new TextDecoder("utf-8", { fatal: true });
