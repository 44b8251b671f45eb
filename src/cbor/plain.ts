import { DECIMAL_FRACTION, readDecimalFraction, SELF_DESCRIPTION } from "./decimal-fraction.js";
import { CborError } from "./errors.js";
import { readHead } from "./head.js";

/**
 * Checks that `bytes` are one well-formed CBOR item (RFC 8949) of plain data: numbers, text in UTF-8, byte strings, booleans,
 * null, arrays and maps without duplicate keys. Lengths beyond the bytes that are there are refused before anything is
 * allocated for them: a general decoder may then be given what is returned, whatever it does with tags.
 *
 * Returns `bytes` themselves, or with `tags: "drop"` a plain form of them: strings in pieces are joined, a decimal fraction
 * (tag 4) is the double nearest to it, a text with its language (tag 38) the array that it is, and any other tag with its
 * content, or a simple value without a meaning, is undefined.
 *
 * @throws CborError
 */
export function plainCbor(bytes: Uint8Array, limits: CborLimits): Uint8Array {
  const isDescribed = limits.tags === "drop" && SELF_DESCRIPTION.every((byte, index) => bytes[index] === byte);
  const item = isDescribed ? bytes.subarray(SELF_DESCRIPTION.length) : bytes;
  const scanner = new Scanner(item, limits);
  const end = scanner.item(0, 1);
  if (end !== item.length) throw new CborError(`bytes after the item, from ${end} on`);
  return scanner.plain();
}

export interface CborLimits {
  /** Arrays, maps and tags within one another. */
  readonly maxDepth: number;
  /** Items in all, keys and values counted. */
  readonly maxItems: number;
  /** Whether tags, strings in pieces and simple values without a meaning are refused, or made plain. */
  readonly tags: "refuse" | "drop";
}

class Scanner {
  readonly #bytes: Uint8Array;
  readonly #limits: CborLimits;
  #items = 0;
  /** The plain form up to `#plainUpTo`, where it differs from the bytes. */
  #parts: Uint8Array[] = [];
  #plainUpTo = 0;

  constructor(bytes: Uint8Array, limits: CborLimits) {
    this.#bytes = bytes;
    this.#limits = limits;
  }

  plain(): Uint8Array {
    if (this.#parts.length === 0) return this.#bytes;
    return concatenate([...this.#parts, this.#bytes.subarray(this.#plainUpTo)]);
  }

  /** Returns where the item at `at` ends. */
  item(at: number, depth: number): number {
    if (++this.#items > this.#limits.maxItems) throw new CborError(`more than ${this.#limits.maxItems} items`);
    const { major, argument, next } = readHead(this.#bytes, at);
    switch (major) {
      case 0:
      case 1:
        return next;
      case 2:
      case 3:
        return argument === Infinity ? this.#pieces(at, next, major) : this.#string(at, next, argument, major);
      case 4:
      case 5:
        this.#checkDepth(at, depth);
        return major === 4 ? this.#array(next, argument, depth) : this.#map(next, argument, depth);
      case 6:
        return this.#tag(at, next, argument, depth);
      default:
        return this.#simple(at, next);
    }
  }

  #array(start: number, count: number, depth: number): number {
    let at = start;
    for (let index = 0; index < count; index++) {
      if (count === Infinity && this.#bytes[at] === BREAK) return at + 1;
      at = this.item(at, depth + 1);
    }
    return at;
  }

  #map(start: number, count: number, depth: number): number {
    const keys = new Set<string>();
    let at = start;
    for (let index = 0; index < count; index++) {
      if (count === Infinity && this.#bytes[at] === BREAK) return at + 1;
      const { major } = readHead(this.#bytes, at);
      if (major > 3) throw new CborError(`a map key that is no number or string at ${at}`);
      const keyEnd = this.item(at, depth + 1);
      const key = keyOf(this.#bytes, at, keyEnd);
      if (keys.has(key)) throw new CborError(`a map key twice at ${at}`);
      keys.add(key);
      at = this.item(keyEnd, depth + 1);
    }
    return at;
  }

  #string(at: number, start: number, length: number, major: number): number {
    const end = start + length;
    if (end > this.#bytes.length) throw new CborError(`a string cut off at ${at}`);
    if (major === TEXT) {
      try {
        STRICT_TEXT.decode(this.#bytes.subarray(start, end));
      } catch {
        throw new CborError(`text that is not UTF-8 at ${at}`);
      }
    }
    return end;
  }

  /** A string of indefinite length (RFC 8949 §3.2.3): each piece is a whole string of the same kind. */
  #pieces(at: number, start: number, major: number): number {
    if (this.#limits.tags === "refuse") throw new CborError(`a string in pieces at ${at}`);
    const pieces: Uint8Array[] = [];
    let length = 0;
    let index = start;
    while (this.#bytes[index] !== BREAK) {
      const piece = readHead(this.#bytes, index);
      if (piece.major !== major || piece.argument === Infinity) throw new CborError(`no piece of a string at ${index}`);
      const end = this.#string(index, piece.next, piece.argument, major);
      pieces.push(this.#bytes.subarray(piece.next, end));
      length += piece.argument;
      index = end;
    }
    const head = new Uint8Array([(major << 5) | 26, length >>> 24, length >>> 16, length >>> 8, length]);
    this.#replace(at, index + 1, [head, ...pieces]);
    return index + 1;
  }

  #tag(at: number, next: number, tag: number, depth: number): number {
    if (this.#limits.tags === "refuse") throw new CborError(`a tag at ${at}`);
    this.#checkDepth(at, depth);
    if (tag === LANGUAGE_TAGGED) {
      this.#replace(at, next, []);
      return this.item(next, depth + 1);
    }
    const parts = this.#parts.length;
    const plainUpTo = this.#plainUpTo;
    const end = this.item(next, depth + 1);
    // Whatever became plain within the content goes with it.
    this.#parts.length = parts;
    this.#plainUpTo = plainUpTo;
    const value = tag === DECIMAL_FRACTION ? readDecimalFraction(this.#bytes, next) : undefined;
    this.#replace(at, end, [value === undefined ? UNDEFINED : doubleItem(value)]);
    return end;
  }

  /** false, true, null, undefined, and floats of 2, 4 and 8 bytes. */
  #simple(at: number, next: number): number {
    const initial = (this.#bytes[at] ?? 0) & 31;
    const value = initial === 24 ? (this.#bytes[at + 1] ?? 0) : initial;
    // RFC 8949 §3.3: what has a short form has no long one; 24 to 31 are reserved.
    if (initial === 31 || (initial === 24 && value < 32)) throw new CborError(`a bad simple value at ${at}`);
    if (initial >= 20 && initial !== 24) return next;
    if (this.#limits.tags === "refuse") throw new CborError(`a simple value that is not understood at ${at}`);
    this.#replace(at, next, [UNDEFINED]);
    return next;
  }

  #replace(start: number, end: number, plain: readonly Uint8Array[]): void {
    this.#parts.push(this.#bytes.subarray(this.#plainUpTo, start), concatenate(plain));
    this.#plainUpTo = end;
  }

  #checkDepth(at: number, depth: number): void {
    if (depth > this.#limits.maxDepth) throw new CborError(`nested deeper than ${this.#limits.maxDepth} at ${at}`);
  }
}

/** The same for two items that are the same key, however they are encoded. */
function keyOf(bytes: Uint8Array, start: number, end: number): string {
  const { major, argument, next } = readHead(bytes, start);
  if (major < 2) return `${major}:${argument > Number.MAX_SAFE_INTEGER ? latin1(bytes, start, end) : argument}`;
  if (argument !== Infinity) return `${major}:${latin1(bytes, next, end)}`;
  let text = "";
  for (let at = next; at < end - 1;) {
    const piece = readHead(bytes, at);
    at = piece.next + piece.argument;
    text += latin1(bytes, piece.next, at);
  }
  return `${major}:${text}`;
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let at = start; at < end; at++) text += String.fromCharCode(bytes[at] ?? 0);
  return text;
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function doubleItem(value: number): Uint8Array {
  const item = new Uint8Array(9);
  item[0] = 0xfb;
  new DataView(item.buffer).setFloat64(1, value);
  return item;
}

/** Tag 38: language, text, and perhaps its direction (RFC 9290 appendix A). */
export const LANGUAGE_TAGGED = 38;
const TEXT = 3;
const BREAK = 0xff;
const UNDEFINED = Uint8Array.of(0xf7);
const STRICT_TEXT = new TextDecoder("utf-8", { fatal: true });
