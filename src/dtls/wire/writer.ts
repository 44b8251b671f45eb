/** The pieces of the presentation language (RFC 5246 §4); `concat` joins them. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/**
 * Fresh bytes for a datagram, out of a larger array: one of up to 64 bytes of its own lives in V8's heap until native code
 * asks for its address, which costs 1 µs, and a longer one costs an allocation outside of it. To be sent soon: what is kept
 * keeps the larger array.
 */
export function datagramBytes(length: number): Uint8Array {
  if (length > SLAB_BYTES / 4) return new Uint8Array(length);
  if (slabUsed + length > SLAB_BYTES) {
    slab = new ArrayBuffer(SLAB_BYTES);
    slabUsed = 0;
  }
  slabUsed += length;
  return new Uint8Array(slab, slabUsed - length, length);
}

const SLAB_BYTES = 8192;
let slab = new ArrayBuffer(SLAB_BYTES);
let slabUsed = 0;

/** Writes into one array, whose length is known: for what is written so often that an array for each field is too much. */
export class ByteWriter {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(length: number) {
    this.#bytes = new Uint8Array(length);
  }

  uint8(value: number): void {
    this.#bytes[this.#offset++] = value;
  }

  uint16(value: number): void {
    this.#bytes[this.#offset++] = value >> 8;
    this.#bytes[this.#offset++] = value;
  }

  bytes(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#offset);
    this.#offset += bytes.length;
  }

  vector8(content: Uint8Array): void {
    this.uint8(checked(content.length, 0xff));
    this.bytes(content);
  }

  vector16(content: Uint8Array): void {
    this.uint16(checked(content.length, 0xffff));
    this.bytes(content);
  }

  /** The array, which is the caller's. */
  end(): Uint8Array {
    if (this.#offset !== this.#bytes.length) throw new RangeError(`${String(this.#offset)} bytes were written`);
    return this.#bytes;
  }
}

/**
 * A copy in fresh bytes, of `from` to `to`. `slice` will not do: on a Buffer, which datagrams may be, it is a view, that
 * would keep the whole datagram.
 */
export function copyOf(bytes: Uint8Array, from = 0, to: number = bytes.length): Uint8Array {
  const copy = new Uint8Array(to - from);
  if (copy.length > LOOP_COPY_BYTES) copy.set(bytes.subarray(from, to));
  else for (let i = 0; i < copy.length; i++) copy[i] = bytes[from + i] ?? 0;
  return copy;
}

/** Up to here a loop is faster than a view for `set`. */
const LOOP_COPY_BYTES = 96;

export function uint8(value: number): Uint8Array {
  return Uint8Array.of(value);
}

export function uint16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value);
}

export function uint24(value: number): Uint8Array {
  return Uint8Array.of(value >> 16, value >> 8, value);
}

export function vector8(...parts: readonly Uint8Array[]): Uint8Array {
  const content = concat(...parts);
  return concat(uint8(checked(content.length, 0xff)), content);
}

export function vector16(...parts: readonly Uint8Array[]): Uint8Array {
  const content = concat(...parts);
  return concat(uint16(checked(content.length, 0xffff)), content);
}

export function vector24(...parts: readonly Uint8Array[]): Uint8Array {
  const content = concat(...parts);
  return concat(uint24(checked(content.length, 0xffffff)), content);
}

export function uint16List(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 2);
  for (const [index, value] of values.entries()) {
    bytes[index * 2] = value >> 8;
    bytes[index * 2 + 1] = value;
  }
  return bytes;
}

function checked(length: number, maximum: number): number {
  if (length > maximum) throw new RangeError(`a vector of ${String(length)} bytes, at most ${String(maximum)}`);
  return length;
}
