import type { SocketAddress } from "./udp-socket.js";

/**
 * Bytes that stand for an address and its port, and for no other; valid until the next are asked for. A text of both, put
 * together for each ClientHello, costs four times as much.
 */
export function addressBytes({ address, port }: SocketAddress): Uint8Array {
  const { length } = address;
  const end = length + PORT_BYTES;
  const bytes = end > SCRATCH.length ? new Uint8Array(end) : (VIEWS[end] ??= SCRATCH.subarray(0, end));
  for (let i = 0; i < length; i++) bytes[i] = address.charCodeAt(i);
  bytes[length] = port >> 8;
  bytes[length + 1] = port;
  return bytes;
}

const PORT_BYTES = 2;
const SCRATCH: Uint8Array = new Uint8Array(128);
/** By their length. */
const VIEWS: (Uint8Array | undefined)[] = Array.from({ length: SCRATCH.length + 1 }, () => undefined);
