/** Writes CBOR (RFC 8949) in its shortest exact form: definite lengths, each number in the fewest bytes that keep it. */
export class CborWriter {
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private offset = 0;

  array(length: number): void {
    this.head(MAJOR_ARRAY, length);
  }

  map(pairs: number): void {
    this.head(MAJOR_MAP, pairs);
  }

  /** An integer, or the shortest of the floats that is exactly this number; as an integer where both take as much. */
  number(value: number): void {
    const integerBytes = Number.isSafeInteger(value) && !Object.is(value, -0) ? headBytes(value) : Infinity;
    const half = float16Bits(value);
    if (half !== undefined && integerBytes > 3) {
      this.room(3);
      this.view.setUint8(this.offset, FLOAT16);
      this.view.setUint16(this.offset + 1, half);
      this.offset += 3;
    } else if (Math.fround(value) === value && integerBytes > 5) {
      this.room(5);
      this.view.setUint8(this.offset, FLOAT32);
      this.view.setFloat32(this.offset + 1, value);
      this.offset += 5;
    } else if (integerBytes === Infinity) {
      this.room(9);
      this.view.setUint8(this.offset, FLOAT64);
      this.view.setFloat64(this.offset + 1, value);
      this.offset += 9;
    } else if (value < 0) this.head(MAJOR_NEGATIVE, -1 - value);
    else this.head(MAJOR_UNSIGNED, value);
  }

  boolean(value: boolean): void {
    this.room(1);
    this.view.setUint8(this.offset, value ? TRUE : FALSE);
    this.offset += 1;
  }

  text(value: string): void {
    this.string(MAJOR_TEXT, TEXT_ENCODER.encode(value));
  }

  byteString(value: Uint8Array): void {
    this.string(MAJOR_BYTES, value);
  }

  /** What was written; the caller owns it. */
  finish(): Uint8Array {
    return this.bytes.slice(0, this.offset);
  }

  private string(major: number, bytes: Uint8Array): void {
    this.head(major, bytes.length);
    this.room(bytes.length);
    this.bytes.set(bytes, this.offset);
    this.offset += bytes.length;
  }

  private head(major: number, argument: number): void {
    this.room(9);
    const { view, offset } = this;
    const size = headBytes(argument);
    view.setUint8(offset, (major << 5) | (HEAD_INFO.get(size) ?? argument));
    if (size === 2) view.setUint8(offset + 1, argument);
    else if (size === 3) view.setUint16(offset + 1, argument);
    else if (size === 5) view.setUint32(offset + 1, argument);
    else if (size === 9) view.setBigUint64(offset + 1, BigInt(argument));
    this.offset = offset + size;
  }

  private room(bytes: number): void {
    const needed = this.offset + bytes;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes);
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}

/** Bytes of a head with this argument, or of this integer. */
function headBytes(value: number): number {
  const argument = value < 0 ? -1 - value : value;
  if (argument < 24) return 1;
  if (argument < 2 ** 8) return 2;
  if (argument < 2 ** 16) return 3;
  return argument < 2 ** 32 ? 5 : 9;
}

/** The half-precision form of a finite number, where it is exact. */
function float16Bits(value: number): number | undefined {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  const subnormal = magnitude * 2 ** 24;
  if (subnormal < 1024) return Number.isInteger(subnormal) ? sign | subnormal : undefined;
  if (magnitude > MAX_FLOAT16) return undefined;
  let exponent = 15;
  while (2 ** exponent > magnitude) exponent -= 1;
  const mantissa = magnitude * 2 ** (10 - exponent);
  return Number.isInteger(mantissa) ? sign | ((exponent + 15) << 10) | (mantissa - 1024) : undefined;
}

const MAX_FLOAT16 = 65_504;
const MAJOR_UNSIGNED = 0;
const MAJOR_NEGATIVE = 1;
const MAJOR_BYTES = 2;
const MAJOR_TEXT = 3;
const MAJOR_ARRAY = 4;
const MAJOR_MAP = 5;
const FALSE = 0xf4;
const TRUE = 0xf5;
const FLOAT16 = 0xf9;
const FLOAT32 = 0xfa;
const FLOAT64 = 0xfb;
/** The additional information that says how long the argument is, by the head's length; none for one byte. */
const HEAD_INFO: ReadonlyMap<number, number> = new Map([
  [2, 24],
  [3, 25],
  [5, 26],
  [9, 27],
]);
const TEXT_ENCODER = new TextEncoder();
