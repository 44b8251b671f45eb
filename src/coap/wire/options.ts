import { CoapError } from "../errors.js";
import { type Block, decodeBlock, encodeBlock } from "./block.js";
import { copyBytes, extendedBytes, nibble, writeExtended } from "./option-encoding.js";
import { OPTION } from "./option-registry.js";
import { decodeText, encodeText } from "./text.js";
import { encodeUint } from "./uint.js";

/**
 * The options of a message: an immutable list sorted by number, equal numbers in their order on the wire.
 *
 * They are kept as their encoding (RFC 7252 §3.1), with the place of each value in it: those of a decoded message are a
 * view of the datagram, valid as long as that is unchanged; those that were built own their bytes. Values handed out are
 * views in either case, not to be written to.
 */
export class Options implements Iterable<Option> {
  static readonly none: Options = new Options(new Uint8Array(0), 0, 0, []);

  readonly #source: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  /** Three entries for each option: its number, and where its value starts and ends in the source. */
  readonly #places: readonly number[];

  private constructor(source: Uint8Array, start: number, end: number, places: readonly number[]) {
    this.#source = source;
    this.#start = start;
    this.#end = end;
    this.#places = places;
  }

  /** Sorts by number, stably, and copies the values. @throws CoapError COAP_INVALID_MESSAGE for one out of range. */
  static of(options: readonly Option[]): Options {
    if (options.length === 0) return Options.none;
    const sorted = isSorted(options) ? options : options.toSorted((a, b) => a.number - b.number);
    let length = 0;
    let previous = 0;
    for (const { number, value } of sorted) {
      if (!Number.isInteger(number) || number < 0 || number > MAX_OPTION_NUMBER || value.length > MAX_VALUE_BYTES) {
        throw new CoapError("COAP_INVALID_MESSAGE", `option ${number} of ${value.length} bytes cannot be encoded`);
      }
      length += 1 + extendedBytes(number - previous) + extendedBytes(value.length) + value.length;
      previous = number;
    }
    const source = new Uint8Array(length);
    const places: number[] = [];
    let index = 0;
    previous = 0;
    for (const { number, value } of sorted) {
      source[index++] = (nibble(number - previous) << 4) | nibble(value.length);
      index = writeExtended(source, index, number - previous);
      index = writeExtended(source, index, value.length);
      places.push(number, index, index + value.length);
      index = copyBytes(value, 0, value.length, source, index);
      previous = number;
    }
    return new Options(source, 0, length, places);
  }

  /**
   * For the decoder: the encoded options between `start` and `end` of `source`, and their places as number, start of
   * value, end of value. Takes ownership of the places.
   */
  static ofEncoded(source: Uint8Array, start: number, end: number, places: readonly number[]): Options {
    return places.length === 0 ? Options.none : new Options(source, start, end, places);
  }

  get length(): number {
    return this.#places.length / 3;
  }

  /** Bytes on the wire. */
  get encodedBytes(): number {
    return this.#end - this.#start;
  }

  /** Writes the options as on the wire; returns the index after them. */
  writeTo(target: Uint8Array, index: number): number {
    return copyBytes(this.#source, this.#start, this.#end, target, index);
  }

  [Symbol.iterator](): Iterator<Option> {
    return this.#list()[Symbol.iterator]();
  }

  /** The number of the last option; -1 where there is none. One look at it tells that none of a higher number is there. */
  get highestNumber(): number {
    const places = this.#places;
    return places.length === 0 ? -1 : (places[places.length - 3] ?? -1);
  }

  /** The number of the option at this position, counted from 0. */
  numberAt(position: number): number {
    return this.#places[position * 3] ?? -1;
  }

  /** Bytes of the value at this position, counted from 0. */
  lengthAt(position: number): number {
    return (this.#places[position * 3 + 2] ?? 0) - (this.#places[position * 3 + 1] ?? 0);
  }

  /** Whether the value at this position is UTF-8 (RFC 7252 §3.2, string). */
  isTextAt(position: number): boolean {
    const start = this.#places[position * 3 + 1] ?? 0;
    const end = this.#places[position * 3 + 2] ?? 0;
    for (let index = start; index < end; index++) {
      if ((this.#source[index] ?? 0) < 0x80) continue;
      try {
        STRICT_TEXT_DECODER.decode(this.#source.subarray(index, end));
        return true;
      } catch {
        return false;
      }
    }
    return true;
  }

  /** Whether the value at this position is "." or "..". */
  isDotsAt(position: number): boolean {
    const length = this.lengthAt(position);
    if (length !== 1 && length !== 2) return false;
    const start = this.#places[position * 3 + 1] ?? 0;
    return this.#source[start] === DOT && this.#source[start + length - 1] === DOT;
  }

  has(number: number): boolean {
    return this.#find(number) >= 0;
  }

  /** The first value of that number. */
  get(number: number): Uint8Array | undefined {
    const found = this.#find(number);
    return found < 0 ? undefined : this.#valueAt(found);
  }

  getAll(number: number): readonly Uint8Array[] {
    const values: Uint8Array[] = [];
    const places = this.#places;
    for (let found = this.#find(number); found >= 0 && places[found] === number; found += 3)
      values.push(this.#valueAt(found));
    return values;
  }

  uint(number: number): number | undefined {
    const found = this.#find(number);
    if (found < 0) return undefined;
    const end = this.#places[found + 2] ?? 0;
    let value = 0;
    for (let index = this.#places[found + 1] ?? 0; index < end; index++)
      value = value * 256 + (this.#source[index] ?? 0);
    return value;
  }

  strings(number: number): readonly string[] {
    const places = this.#places;
    let found = this.#find(number);
    if (found < 0) return [];
    // A literal of one takes no more than that; an empty array that is added to makes room for 17.
    const strings = [this.#textAt(found)];
    for (found += 3; found < places.length && places[found] === number; found += 3) strings.push(this.#textAt(found));
    return strings;
  }

  get uriHost(): string | undefined {
    return this.strings(OPTION.UriHost)[0];
  }

  get uriPath(): readonly string[] {
    return this.strings(OPTION.UriPath);
  }

  get uriQuery(): readonly string[] {
    return this.strings(OPTION.UriQuery);
  }

  get locationPath(): readonly string[] {
    return this.strings(OPTION.LocationPath);
  }

  get locationQuery(): readonly string[] {
    return this.strings(OPTION.LocationQuery);
  }

  get contentFormat(): number | undefined {
    return this.uint(OPTION.ContentFormat);
  }

  get accept(): number | undefined {
    return this.uint(OPTION.Accept);
  }

  get observe(): number | undefined {
    return this.uint(OPTION.Observe);
  }

  /** Seconds (RFC 7252 §5.10.5). */
  get maxAge(): number | undefined {
    return this.uint(OPTION.MaxAge);
  }

  get etag(): Uint8Array | undefined {
    return this.get(OPTION.ETag);
  }

  /** undefined where absent. @throws CoapError COAP_BAD_OPTION for more than 3 bytes. */
  get block1(): Block | undefined {
    const value = this.get(OPTION.Block1);
    return value === undefined ? undefined : decodeBlock(value);
  }

  /** undefined where absent. @throws CoapError COAP_BAD_OPTION for more than 3 bytes. */
  get block2(): Block | undefined {
    const value = this.get(OPTION.Block2);
    return value === undefined ? undefined : decodeBlock(value);
  }

  /** Bytes of the whole request body (RFC 7959 §4). */
  get size1(): number | undefined {
    return this.uint(OPTION.Size1);
  }

  /** Bytes of the whole response body (RFC 7959 §4). */
  get size2(): number | undefined {
    return this.uint(OPTION.Size2);
  }

  /** Replaces all values of that number by this one. @throws CoapError COAP_INVALID_MESSAGE. */
  with(number: number, value: Uint8Array | string | number): Options {
    return Options.of([...this.#listWithout([number]), { number, value: bytesOf(value) }]);
  }

  /** Replaces all values of that number by these, in this order. @throws CoapError COAP_INVALID_MESSAGE. */
  withAll(number: number, values: readonly (Uint8Array | string)[]): Options {
    return Options.of([...this.#listWithout([number]), ...values.map((value) => ({ number, value: bytesOf(value) }))]);
  }

  withBlock1(block: Block): Options {
    return this.with(OPTION.Block1, encodeBlock(block));
  }

  withBlock2(block: Block): Options {
    return this.with(OPTION.Block2, encodeBlock(block));
  }

  without(...numbers: readonly number[]): Options {
    return numbers.some((number) => this.has(number)) ? Options.of(this.#listWithout(numbers)) : this;
  }

  #list(): Option[] {
    const list: Option[] = [];
    for (let index = 0; index < this.#places.length; index += 3)
      list.push({ number: this.#places[index] ?? 0, value: this.#valueAt(index) });
    return list;
  }

  #listWithout(numbers: readonly number[]): Option[] {
    return this.#list().filter((option) => !numbers.includes(option.number));
  }

  /** Where the first option of that number stands among the places; -1 where there is none. */
  #find(number: number): number {
    const places = this.#places;
    for (let index = 0; index < places.length; index += 3) {
      const candidate = places[index] ?? 0;
      if (candidate >= number) return candidate === number ? index : -1;
    }
    return -1;
  }

  #textAt(index: number): string {
    return decodeText(this.#source, this.#places[index + 1] ?? 0, this.#places[index + 2] ?? 0);
  }

  #valueAt(index: number): Uint8Array {
    return this.#source.subarray(this.#places[index + 1], this.#places[index + 2]);
  }
}

export interface Option {
  readonly number: number;
  readonly value: Uint8Array;
}

/** Most lists are, and sorting costs more than all the rest. */
function isSorted(options: readonly Option[]): boolean {
  let previous = 0;
  for (const { number } of options) {
    // Also of what is no number: that is refused later.
    if (!(number >= previous)) return false;
    previous = number;
  }
  return true;
}

function bytesOf(value: Uint8Array | string | number): Uint8Array {
  if (typeof value === "string") return encodeText(value);
  return typeof value === "number" ? encodeUint(value) : value;
}

export const MAX_OPTION_NUMBER = 0xffff;
const MAX_VALUE_BYTES = 0xffff + 269;
const DOT = 0x2e;
const STRICT_TEXT_DECODER = new TextDecoder("utf-8", { fatal: true });
