import { CoapError } from "../errors.js";

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
