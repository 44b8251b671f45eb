import { CborError } from "./errors.js";

/** The head of an item (RFC 8949 §3): its major type, its argument, and where what follows the head begins. */
export interface Head {
  readonly major: number;
  /** Rounded past 2^53; Infinity for an indefinite length. */
  readonly argument: number;
  readonly next: number;
}

/** @throws CborError for a head that is cut off or reserved. */
export function readHead(bytes: Uint8Array, at: number): Head {
  const initial = byteAt(bytes, at);
  const major = initial >> 5;
  const information = initial & 31;
  if (information < 24) return { major, argument: information, next: at + 1 };
  if (information === 31) {
    // A break is no item either (§3.2.1).
    if (major < 2 || major > 5) throw new CborError(`a reserved head at ${at}`);
    return { major, argument: Infinity, next: at + 1 };
  }
  if (information > 27) throw new CborError(`a reserved head at ${at}`);
  const length = 1 << (information - 24);
  let argument = 0;
  for (let index = 1; index <= length; index++) argument = argument * 256 + byteAt(bytes, at + index);
  return { major, argument, next: at + 1 + length };
}

function byteAt(bytes: Uint8Array, at: number): number {
  const byte = bytes[at];
  if (byte === undefined) throw new CborError(`cut off at ${at}`);
  return byte;
}
