import { SenmlError } from "./errors.js";

/*
 * A pull reader of CBOR (RFC 8949 §3) for what SenML needs. One pass over the bytes: nothing is allocated by a declared
 * length before the bytes that it promises are there, and nesting is bounded. Differs from a general decoder: tags are
 * never turned into objects, but for decimal fractions (tag 4), which RFC 8428 §6 has for numbers.
 *
 * Every method throws SenmlError SENML_MALFORMED for what is not well-formed.
 */
export class CborReader {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private offset = 0;

  constructor(bytes: Uint8Array) {
    // Not a Buffer, whose slice would be no copy.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd(): boolean {
    return this.offset === this.bytes.length;
  }

  /** Steps over tag 55799, which only says that CBOR follows (RFC 8949 §3.4.6). */
  skipSelfDescription(): void {
    if (this.bytes[0] === 0xd9 && this.bytes[1] === 0xd9 && this.bytes[2] === 0xf7) this.offset = 3;
  }

  /** Opens an array: the number of its items, `undefined` for an indefinite length. */
  openArray(): number | undefined {
    return this.open(MAJOR.array, 1, "an array");
  }

  /** Opens a map: the number of its pairs, `undefined` for an indefinite length. */
  openMap(): number | undefined {
    return this.open(MAJOR.map, 2, "a map");
  }

  /** Whether another item follows in the array or map of this length; takes the break of an indefinite one. */
  hasNext(length: number | undefined, itemsRead: number): boolean {
    if (length !== undefined) return itemsRead < length;
    if (this.bytes[this.offset] !== BREAK) return true;
    this.offset += 1;
    return false;
  }

  /** A map's label: an integer or a text (RFC 8428 §6). */
  label(): number | string {
    const head = this.head();
    if (head.major === MAJOR.text) return this.text(head);
    if (head.major === MAJOR.unsigned || head.major === MAJOR.negative) return Number(integerOf(head));
    throw malformed("a label is an integer or a text");
  }

  /** A value of a field; `undefined` for an item that no field can hold, which is stepped over. The caller owns bytes. */
  scalar(): number | string | boolean | Uint8Array | undefined {
    const start = this.offset;
    const head = this.head();
    switch (head.major) {
      case MAJOR.unsigned:
      case MAJOR.negative:
        return Number(integerOf(head));
      case MAJOR.bytes:
        return this.byteString(head);
      case MAJOR.text:
        return this.text(head);
      case MAJOR.simple:
        if (head.info === SIMPLE_FALSE || head.info === SIMPLE_TRUE) return head.info === SIMPLE_TRUE;
        if (head.info >= FLOAT16 && head.info <= FLOAT64) return this.float(head.info);
        break;
      case MAJOR.tag:
        if (head.argument === DECIMAL_FRACTION) return this.decimalFraction();
        break;
    }
    this.offset = start;
    this.skip();
    return undefined;
  }

  /** Steps over one whole item, checking that it is well-formed. */
  skip(depth = 0): void {
    if (depth > MAX_NESTING) throw malformed(`nested deeper than ${MAX_NESTING}`);
    const start = this.offset;
    const head = this.head();
    switch (head.major) {
      case MAJOR.unsigned:
      case MAJOR.negative:
      case MAJOR.simple:
        if (head.info === INDEFINITE) throw malformed("a break outside of an indefinite length");
        return;
      case MAJOR.bytes:
        this.byteString(head);
        return;
      case MAJOR.text:
        this.text(head);
        return;
      case MAJOR.tag:
        this.skip(depth + 1);
        return;
      case MAJOR.array:
      case MAJOR.map: {
        this.offset = start;
        const length = head.major === MAJOR.array ? this.openArray() : this.openMap();
        for (let read = 0; this.hasNext(length, read); read += 1) {
          this.skip(depth + 1);
          if (head.major === MAJOR.map) this.skip(depth + 1);
        }
      }
    }
  }

  private open(major: number, itemsEach: number, what: string): number | undefined {
    const head = this.head();
    if (head.major !== major) throw malformed(`${what} is expected`);
    if (head.info === INDEFINITE) return undefined;
    // An item takes a byte at least.
    if (head.argument * itemsEach > this.bytes.length - this.offset) throw malformed("cut short");
    return head.argument;
  }

  private head(): Head {
    const initial = this.bytes[this.offset];
    if (initial === undefined) throw malformed("cut short");
    const major = initial >> 5;
    const info = initial & 0x1f;
    const at = this.offset + 1;
    if (info < ONE_BYTE) {
      this.offset = at;
      return { major, info, argument: info };
    }
    if (info === INDEFINITE) {
      if (major === MAJOR.unsigned || major === MAJOR.negative || major === MAJOR.tag) throw malformed("bad head");
      this.offset = at;
      return { major, info, argument: 0 };
    }
    if (info > EIGHT_BYTES) throw malformed("bad head");
    const size = 1 << (info - ONE_BYTE);
    if (at + size > this.bytes.length) throw malformed("cut short");
    this.offset = at + size;
    const { view } = this;
    switch (size) {
      case 1:
        // A simple value below 32 has its own short form (RFC 8949 §3.3).
        if (major === MAJOR.simple && view.getUint8(at) < 32) throw malformed("bad simple value");
        return { major, info, argument: view.getUint8(at) };
      case 2:
        return { major, info, argument: view.getUint16(at) };
      case 4:
        return { major, info, argument: view.getUint32(at) };
      default: {
        const exact = view.getBigUint64(at);
        return { major, info, argument: Number(exact), exact };
      }
    }
  }

  /** The float whose head was just read. */
  private float(info: number): number {
    const { view, offset } = this;
    if (info === FLOAT64) return view.getFloat64(offset - 8);
    return info === FLOAT32 ? view.getFloat32(offset - 4) : float16Of(view.getUint16(offset - 2));
  }

  /** Tag 4 (RFC 8949 §3.4.4): `[exponent, mantissa]`, rounded once, to the nearest double. */
  private decimalFraction(): number | undefined {
    const parts = this.openArray();
    if (parts !== 2) throw malformed("a decimal fraction has two parts");
    const exponent = this.head();
    if (exponent.major !== MAJOR.unsigned && exponent.major !== MAJOR.negative)
      throw malformed("the exponent of a decimal fraction is an integer");
    const mantissa = this.head();
    if (mantissa.major === MAJOR.unsigned || mantissa.major === MAJOR.negative)
      return Number(`${integerOf(mantissa)}e${integerOf(exponent)}`);
    if (mantissa.major !== MAJOR.tag || (mantissa.argument !== BIGNUM && mantissa.argument !== NEGATIVE_BIGNUM))
      throw malformed("the mantissa of a decimal fraction is an integer");
    const content = this.head();
    if (content.major !== MAJOR.bytes) throw malformed("a bignum is a byte string");
    const magnitude = this.byteString(content);
    // Past this the decimal digits cost more than the value is worth, and no double is as large.
    if (magnitude.length > MAX_BIGNUM_BYTES) return undefined;
    const value = magnitude.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    return Number(`${mantissa.argument === BIGNUM ? value : -1n - value}e${integerOf(exponent)}`);
  }

  private text(head: Head): string {
    if (head.info !== INDEFINITE) return utf8Of(this.take(head.argument));
    let text = "";
    // Each chunk is text by itself (RFC 8949 §3.2.3).
    for (const chunk of this.chunks(MAJOR.text)) text += utf8Of(chunk);
    return text;
  }

  private byteString(head: Head): Uint8Array {
    if (head.info !== INDEFINITE) return this.take(head.argument).slice();
    const chunks = [...this.chunks(MAJOR.bytes)];
    const joined = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    return joined;
  }

  private *chunks(major: number): Generator<Uint8Array> {
    while (this.hasNext(undefined, 0)) {
      const chunk = this.head();
      if (chunk.major !== major || chunk.info === INDEFINITE) throw malformed("bad chunk of a string");
      yield this.take(chunk.argument);
    }
  }

  private take(length: number): Uint8Array {
    if (length > this.bytes.length - this.offset) throw malformed("cut short");
    this.offset += length;
    return this.bytes.subarray(this.offset - length, this.offset);
  }
}

/** `argument` is rounded past 2^53; `exact` is there for eight bytes. */
interface Head {
  readonly major: number;
  readonly info: number;
  readonly argument: number;
  readonly exact?: bigint;
}

function integerOf({ major, argument, exact }: Head): number | bigint {
  if (Number.isSafeInteger(argument)) return major === MAJOR.unsigned ? argument : -1 - argument;
  const whole = exact ?? BigInt(argument);
  return major === MAJOR.unsigned ? whole : -1n - whole;
}

/** RFC 8949 appendix D. */
function float16Of(half: number): number {
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  const magnitude =
    exponent === 0
      ? mantissa * 2 ** -24
      : exponent === 31
        ? mantissa === 0
          ? Number.POSITIVE_INFINITY
          : Number.NaN
        : (mantissa + 1024) * 2 ** (exponent - 25);
  return (half & 0x8000) === 0 ? magnitude : -magnitude;
}

function utf8Of(bytes: Uint8Array): string {
  try {
    return STRICT_TEXT.decode(bytes);
  } catch (error) {
    throw malformed("a text is not UTF-8", error);
  }
}

function malformed(detail: string, cause?: unknown): SenmlError {
  return new SenmlError("SENML_MALFORMED", `CBOR: ${detail}`, { cause });
}

/** Levels below a field's value. */
const MAX_NESTING = 16;
const MAX_BIGNUM_BYTES = 128;

const MAJOR = { unsigned: 0, negative: 1, bytes: 2, text: 3, array: 4, map: 5, tag: 6, simple: 7 } as const;
const ONE_BYTE = 24;
const EIGHT_BYTES = 27;
const INDEFINITE = 31;
const BREAK = 0xff;
const SIMPLE_FALSE = 20;
const SIMPLE_TRUE = 21;
const FLOAT16 = 25;
const FLOAT32 = 26;
const FLOAT64 = 27;
const BIGNUM = 2;
const NEGATIVE_BIGNUM = 3;
const DECIMAL_FRACTION = 4;
const STRICT_TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
