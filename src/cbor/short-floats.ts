import { readHead } from "./head.js";

/**
 * Puts each float of an encoded item in the shortest form that is exactly the same number (RFC 8949 §4.1). Works in place;
 * returns the part of `bytes` that is left. All other items must be of definite length.
 */
export function withShortFloats(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let to = 0;
  for (let from = 0; from < bytes.length;) {
    const { major, argument, next } = readHead(bytes, from);
    if (bytes[from] === FLOAT64) {
      to = writeFloat(view, to, view.getFloat64(from + 1));
      from = next;
      continue;
    }
    // Items stand one after the other: what is within an array or a map needs no look at its head.
    const end = major === 2 || major === 3 ? next + argument : next;
    if (to !== from) bytes.copyWithin(to, from, end);
    to += end - from;
    from = end;
  }
  return bytes.subarray(0, to);
}

function writeFloat(view: DataView, at: number, value: number): number {
  const half = float16Bits(value);
  if (half !== undefined) {
    view.setUint8(at, FLOAT16);
    view.setUint16(at + 1, half);
    return at + 3;
  }
  if (Math.fround(value) === value) {
    view.setUint8(at, FLOAT32);
    view.setFloat32(at + 1, value);
    return at + 5;
  }
  view.setUint8(at, FLOAT64);
  view.setFloat64(at + 1, value);
  return at + 9;
}

/** The half-precision form of a finite number, where it is exact (RFC 8949 appendix D). */
function float16Bits(value: number): number | undefined {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  const subnormal = magnitude * 2 ** 24;
  if (subnormal < 1024) return Number.isInteger(subnormal) ? sign | subnormal : undefined;
  if (!(magnitude <= MAX_FLOAT16)) return undefined;
  let exponent = 15;
  while (2 ** exponent > magnitude) exponent -= 1;
  const mantissa = magnitude * 2 ** (10 - exponent);
  return Number.isInteger(mantissa) ? sign | ((exponent + 15) << 10) | (mantissa - 1024) : undefined;
}

const MAX_FLOAT16 = 65_504;
const FLOAT16 = 0xf9;
const FLOAT32 = 0xfa;
const FLOAT64 = 0xfb;
