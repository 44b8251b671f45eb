import { formatIpAddress, parseIpAddress } from "./ip-address.js";

/** The addresses that begin with the same bits; one address is a prefix of all its bits. */
export interface IpPrefix {
  /** 4 or 16; those after the prefix are zero. */
  readonly bytes: Uint8Array;
  /** In bits. */
  readonly length: number;
}

/** `192.0.2.0/24`, `2001:db8::/32`, or an address alone. Undefined where it is neither, or has bits after the prefix. */
export function parseIpPrefix(text: string): IpPrefix | undefined {
  const match = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text);
  const bytes = parseIpAddress(match?.[1] ?? "");
  if (bytes === undefined) return undefined;
  const length = match?.[2] === undefined ? bytes.length * 8 : Number(match[2]);
  const prefix = ipPrefix(bytes, length);
  return prefix !== undefined && prefix.bytes.every((byte, index) => byte === bytes[index]) ? prefix : undefined;
}

/** The prefix of that many bits that an address is in; undefined where it has fewer bits. */
export function ipPrefix(address: Uint8Array, length: number): IpPrefix | undefined {
  if (!Number.isInteger(length) || length < 0 || length > address.length * 8) return undefined;
  const bytes = address.map((byte, index) => byte & maskOf(length - index * 8));
  return { bytes, length };
}

export function isInPrefix(address: Uint8Array, prefix: IpPrefix): boolean {
  return (
    address.length === prefix.bytes.length &&
    address.every((byte, index) => (byte & maskOf(prefix.length - index * 8)) === prefix.bytes[index])
  );
}

/** `192.0.2.0/24`; an address alone where the prefix is all its bits. */
export function formatIpPrefix({ bytes, length }: IpPrefix): string {
  const address = formatIpAddress(bytes);
  return length === bytes.length * 8 ? address : `${address}/${length}`;
}

/** Of a byte with that many bits of the prefix from its start on. */
function maskOf(bits: number): number {
  return bits >= 8 ? 0xff : bits <= 0 ? 0 : (0xff << (8 - bits)) & 0xff;
}
