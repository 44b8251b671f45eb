import { DtlsError } from "../errors.js";

/** Reads the presentation language of RFC 5246 §4. Whatever is short or left over is DTLS_DECODE_ERROR. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  uint8(): number {
    const value = this.#bytes[this.#offset];
    if (value === undefined) throw new DtlsError("DTLS_DECODE_ERROR", "short");
    this.#offset++;
    return value;
  }

  uint16(): number {
    return (this.uint8() << 8) | this.uint8();
  }

  uint24(): number {
    return (this.uint16() << 8) | this.uint8();
  }

  skip(length: number): void {
    this.#offset = this.#endOf(length);
  }

  /** A view, not a copy. */
  bytes(length: number): Uint8Array {
    if (length === 0) return NO_BYTES;
    const from = this.#offset;
    this.#offset = this.#endOf(length);
    return this.#bytes.subarray(from, this.#offset);
  }

  vector8(minimum = 0, maximum = 0xff): Uint8Array {
    return this.bytes(checkedLength(this.uint8(), minimum, maximum));
  }

  vector16(minimum = 0, maximum = 0xffff): Uint8Array {
    return this.bytes(checkedLength(this.uint16(), minimum, maximum));
  }

  /** A vector of uint8, in numbers: `Array.from` takes 1 µs for one byte. */
  uint8List(minimum: number): number[] {
    const end = this.#endOf(checkedLength(this.uint8(), minimum, 0xff));
    const list: number[] = [];
    while (this.#offset < end) list.push(this.uint8());
    return list;
  }

  /** A vector of uint16, its length in bytes; an odd one is DTLS_DECODE_ERROR. */
  uint16List(minimum: number, maximum = 0xffff): number[] {
    const length = checkedLength(this.uint16(), minimum, maximum);
    if (length % 2 !== 0) throw new DtlsError("DTLS_DECODE_ERROR", "odd");
    const end = this.#endOf(length);
    const list: number[] = [];
    while (this.#offset < end) list.push(this.uint16());
    return list;
  }

  vector24(): Uint8Array {
    return this.bytes(this.uint24());
  }

  end(): void {
    if (this.remaining > 0) throw new DtlsError("DTLS_DECODE_ERROR", "trailing bytes");
  }

  /** Where the next bytes end, of which there are so many. */
  #endOf(length: number): number {
    if (length > this.remaining) throw new DtlsError("DTLS_DECODE_ERROR", "short");
    return this.#offset + length;
  }
}

/** Of a vector. @throws DtlsError DTLS_DECODE_ERROR */
export function checkedLength(length: number, minimum: number, maximum: number): number {
  if (length < minimum || length > maximum) throw new DtlsError("DTLS_DECODE_ERROR", "vector length");
  return length;
}

const NO_BYTES: Uint8Array = new Uint8Array(0);
