import type { SocketAddress } from "./udp-socket.js";

/**
 * A map by remote address. Two levels of plain keys: one text of both would be put together, and hashed, for each datagram
 * that comes in, which costs four times as much.
 */
export class AddressMap<Value> {
  readonly #ports = new Map<string, Map<number, Value>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get({ address, port }: SocketAddress): Value | undefined {
    return this.#ports.get(address)?.get(port);
  }

  set({ address, port }: SocketAddress, value: Value): void {
    let ports = this.#ports.get(address);
    if (ports === undefined) this.#ports.set(address, (ports = new Map()));
    const before = ports.size;
    ports.set(port, value);
    this.#size += ports.size - before;
  }

  delete({ address, port }: SocketAddress): void {
    const ports = this.#ports.get(address);
    if (ports?.delete(port) !== true) return;
    this.#size--;
    if (ports.size === 0) this.#ports.delete(address);
  }

  *values(): Generator<Value> {
    for (const ports of this.#ports.values()) yield* ports.values();
  }
}
