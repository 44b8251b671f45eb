import { isIP, SocketAddress } from "node:net";

/**
 * An address literal as its 4 or 16 bytes; undefined for anything else, a zone included. An IPv4-mapped IPv6 address (RFC
 * 4291 §2.5.5.2) is its IPv4 address: a dual-stack socket names IPv4 peers so.
 */
export function parseIpAddress(text: string): Uint8Array | undefined {
  const family = isIP(text);
  if (family === 4) return Uint8Array.from(text.split("."), Number);
  if (family !== 6 || text.includes("%")) return undefined;
  return withoutMapping(parseIpv6(text));
}

/** An address literal in its one written form; undefined for what {@link parseIpAddress} does not take. */
export function canonicalIpAddress(text: string): string | undefined {
  if (isIP(text) === 4) return text;
  const bytes = parseIpAddress(text);
  return bytes === undefined ? undefined : formatIpAddress(bytes);
}

/** The one written form of 4 or 16 bytes: dotted decimal, or as RFC 5952 has it; IPv4 where it is IPv4-mapped. */
export function formatIpAddress(bytes: Uint8Array): string {
  const plain = withoutMapping(bytes);
  if (plain.length === 4) return plain.join(".");
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((plain[2 * index] ?? 0) << 8) | (plain[2 * index + 1] ?? 0)).toString(16),
  );
  return new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address;
}

function parseIpv6(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const [head = "", tail] = text.split("::");
  const first = groupsOf(head);
  const last = tail === undefined ? [] : groupsOf(tail);
  bytes.set(first, 0);
  bytes.set(last, 16 - last.length);
  return bytes;
}

function groupsOf(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (group.includes(".")) return group.split(".").map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function withoutMapping(bytes: Uint8Array): Uint8Array {
  const isMapped = bytes.length === 16 && MAPPED_PREFIX.every((byte, index) => bytes[index] === byte);
  return isMapped ? bytes.subarray(MAPPED_PREFIX.length) : bytes;
}

const MAPPED_PREFIX: readonly number[] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
