import type { SocketAddress } from "./udp-socket.js";

/**
 * A map by remote address. Two levels of plain keys: one text of both would be put together, and hashed, for each datagram
 * that comes in, which costs four times as much. An address with one port, as most have, needs no map of its own, which
 * would take 140 bytes more.
 */
export class AddressMap<Value> {
  readonly #ports = new Map<string, Map<number, Value> | OnlyPort<Value>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get({ address, port }: SocketAddress): Value | undefined {
    const ports = this.#ports.get(address);
    if (ports instanceof OnlyPort) return ports.port === port ? ports.value : undefined;
    return ports?.get(port);
  }

  set({ address, port }: SocketAddress, value: Value): void {
    const ports = this.#ports.get(address);
    if (ports === undefined) {
      this.#ports.set(address, new OnlyPort(port, value));
      this.#size++;
    } else if (ports instanceof Map) {
      if (!ports.has(port)) this.#size++;
      ports.set(port, value);
    } else if (ports.port === port) {
      ports.value = value;
    } else {
      this.#ports.set(address, new Map<number, Value>().set(ports.port, ports.value).set(port, value));
      this.#size++;
    }
  }

  delete({ address, port }: SocketAddress): void {
    const ports = this.#ports.get(address);
    const isThere = ports instanceof OnlyPort ? ports.port === port : ports?.delete(port) === true;
    if (!isThere) return;
    this.#size--;
    if (ports instanceof OnlyPort || ports?.size === 0) this.#ports.delete(address);
  }

  *values(): Generator<Value> {
    for (const ports of this.#ports.values()) {
      if (ports instanceof OnlyPort) yield ports.value;
      else yield* ports.values();
    }
  }
}

class OnlyPort<Value> {
  readonly port: number;
  value: Value;

  constructor(port: number, value: Value) {
    this.port = port;
    this.value = value;
  }
}
