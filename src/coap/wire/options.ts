import { CoapError } from "../errors.js";
import { type Block, decodeBlock, encodeBlock } from "./block.js";
import { OPTION } from "./option-registry.js";

/**
 * The options of a message: an immutable list sorted by number, equal numbers in their order on the wire. Values of a
 * decoded message are views of the datagram; they are valid as long as it is unchanged.
 */
export class Options implements Iterable<Option> {
  static readonly none: Options = new Options([]);

  readonly #options: readonly Option[];

  private constructor(options: readonly Option[]) {
    this.#options = options;
  }

  /** Sorts by number, stably. */
  static of(options: readonly Option[]): Options {
    if (options.length === 0) return Options.none;
    return new Options(options.toSorted((a, b) => a.number - b.number));
  }

  /** For options that are known to be in order: those of a decoder. Takes ownership of the array. */
  static ofSorted(options: readonly Option[]): Options {
    return options.length === 0 ? Options.none : new Options(options);
  }

  get length(): number {
    return this.#options.length;
  }

  [Symbol.iterator](): Iterator<Option> {
    return this.#options[Symbol.iterator]();
  }

  has(number: number): boolean {
    return this.get(number) !== undefined;
  }

  /** The first value of that number. */
  get(number: number): Uint8Array | undefined {
    for (const option of this.#options) {
      if (option.number === number) return option.value;
      if (option.number > number) return undefined;
    }
    return undefined;
  }

  getAll(number: number): readonly Uint8Array[] {
    return this.#options.filter((option) => option.number === number).map((option) => option.value);
  }

  uint(number: number): number | undefined {
    const value = this.get(number);
    return value === undefined ? undefined : decodeUint(value);
  }

  strings(number: number): readonly string[] {
    const strings: string[] = [];
    for (const option of this.#options) {
      if (option.number === number) strings.push(decodeText(option.value));
      else if (option.number > number) break;
    }
    return strings;
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

  /** undefined where absent. @throws CoapError COAP_BAD_OPTION for the reserved size exponent 7. */
  get block1(): Block | undefined {
    const value = this.get(OPTION.Block1);
    return value === undefined ? undefined : decodeBlock(value);
  }

  /** undefined where absent. @throws CoapError COAP_BAD_OPTION for the reserved size exponent 7. */
  get block2(): Block | undefined {
    const value = this.get(OPTION.Block2);
    return value === undefined ? undefined : decodeBlock(value);
  }

  /** Replaces all values of that number by this one. */
  with(number: number, value: Uint8Array | string | number): Options {
    return Options.of([
      ...this.#options.filter((option) => option.number !== number),
      { number, value: bytesOf(value) },
    ]);
  }

  /** Replaces all values of that number by these, in this order. */
  withAll(number: number, values: readonly (Uint8Array | string)[]): Options {
    return Options.of([
      ...this.#options.filter((option) => option.number !== number),
      ...values.map((value) => ({ number, value: bytesOf(value) })),
    ]);
  }

  withBlock1(block: Block): Options {
    return this.with(OPTION.Block1, encodeBlock(block));
  }

  withBlock2(block: Block): Options {
    return this.with(OPTION.Block2, encodeBlock(block));
  }

  without(...numbers: readonly number[]): Options {
    return Options.ofSorted(this.#options.filter((option) => !numbers.includes(option.number)));
  }
}

export interface Option {
  readonly number: number;
  readonly value: Uint8Array;
}

/** RFC 7252 §3.2: network order, shortest form; leading zeros are accepted from a peer. */
export function decodeUint(value: Uint8Array): number {
  let number = 0;
  for (const byte of value) number = number * 256 + byte;
  return number;
}

/** Shortest form: 0 is empty. @throws CoapError COAP_INVALID_MESSAGE unless 0 ≤ number < 2^32. */
export function encodeUint(number: number): Uint8Array {
  if (!Number.isInteger(number) || number < 0 || number > 0xffff_ffff) {
    throw new CoapError("COAP_INVALID_MESSAGE", `an option's uint is 0 to 4294967295, not ${number}`);
  }
  let length = 0;
  for (let rest = number; rest > 0; rest = Math.floor(rest / 256)) length++;
  const value = new Uint8Array(length);
  for (let index = length - 1, rest = number; index >= 0; index--, rest = Math.floor(rest / 256))
    value[index] = rest & 0xff;
  return value;
}

function bytesOf(value: Uint8Array | string | number): Uint8Array {
  if (typeof value === "string") return TEXT_ENCODER.encode(value);
  return typeof value === "number" ? encodeUint(value) : value;
}

/** Short ASCII, the rule in paths and queries, is decoded without the cost of a TextDecoder call. */
function decodeText(value: Uint8Array): string {
  let text = "";
  for (const byte of value) {
    if (byte > 0x7f) return TEXT_DECODER.decode(value);
    text += String.fromCharCode(byte);
  }
  return text;
}

const TEXT_ENCODER = new TextEncoder();
const TEXT_DECODER = new TextDecoder();
