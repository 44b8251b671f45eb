import type { SocketAddress } from "./udp-socket.js";

/**
 * A map by remote address. Two levels of plain keys: one text of both would be put together, and hashed, for each datagram
 * that comes in, which costs four times as much. The port goes first: the address, a new text with each datagram, is hashed only
 * where more peers have that port, and one of its own, as most have, needs no map of its own, which would take 140 bytes more.
 */
export class AddressMap<Value> {
  readonly #addresses = new Map<number, Map<string, Value> | OnlyAddress<Value>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get({ address, port }: SocketAddress): Value | undefined {
    const addresses = this.#addresses.get(port);
    if (addresses instanceof OnlyAddress) return addresses.address === address ? addresses.value : undefined;
    return addresses?.get(address);
  }

  set({ address, port }: SocketAddress, value: Value): void {
    const addresses = this.#addresses.get(port);
    if (addresses === undefined) {
      this.#addresses.set(port, new OnlyAddress(address, value));
      this.#size++;
    } else if (addresses instanceof Map) {
      if (!addresses.has(address)) this.#size++;
      addresses.set(address, value);
    } else if (addresses.address === address) {
      addresses.value = value;
    } else {
      const both = new Map<string, Value>().set(addresses.address, addresses.value).set(address, value);
      this.#addresses.set(port, both);
      this.#size++;
    }
  }

  delete({ address, port }: SocketAddress): void {
    const addresses = this.#addresses.get(port);
    const isThere =
      addresses instanceof OnlyAddress ? addresses.address === address : addresses?.delete(address) === true;
    if (!isThere) return;
    this.#size--;
    if (addresses instanceof OnlyAddress || addresses?.size === 0) this.#addresses.delete(port);
  }

  *values(): Generator<Value> {
    for (const addresses of this.#addresses.values()) {
      if (addresses instanceof OnlyAddress) yield addresses.value;
      else yield* addresses.values();
    }
  }
}

class OnlyAddress<Value> {
  readonly address: string;
  value: Value;

  constructor(address: string, value: Value) {
    this.address = address;
    this.value = value;
  }
}
