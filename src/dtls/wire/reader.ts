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
    if (length > this.remaining) throw new DtlsError("DTLS_DECODE_ERROR", "short");
    this.#offset += length;
  }

  /** A view, not a copy. */
  bytes(length: number): Uint8Array {
    if (length > this.remaining) throw new DtlsError("DTLS_DECODE_ERROR", "short");
    this.#offset += length;
    return this.#bytes.subarray(this.#offset - length, this.#offset);
  }

  vector8(minimum = 0, maximum = 0xff): Uint8Array {
    return this.bytes(checkedLength(this.uint8(), minimum, maximum));
  }

  vector16(minimum = 0, maximum = 0xffff): Uint8Array {
    return this.bytes(checkedLength(this.uint16(), minimum, maximum));
  }

  vector24(): Uint8Array {
    return this.bytes(this.uint24());
  }

  end(): void {
    if (this.remaining > 0) throw new DtlsError("DTLS_DECODE_ERROR", "trailing bytes");
  }
}

/** Of a vector. @throws DtlsError DTLS_DECODE_ERROR */
export function checkedLength(length: number, minimum: number, maximum: number): number {
  if (length < minimum || length > maximum) throw new DtlsError("DTLS_DECODE_ERROR", "vector length");
  return length;
}

/** The elements of a vector of uint16; an odd length is DTLS_DECODE_ERROR. */
export function decodeUint16List(bytes: Uint8Array): number[] {
  if (bytes.length % 2 !== 0) throw new DtlsError("DTLS_DECODE_ERROR", "odd");
  const list: number[] = [];
  for (let i = 0; i < bytes.length; i += 2) list.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  return list;
}
