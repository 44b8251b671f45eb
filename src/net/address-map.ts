import type { SocketAddress } from "./udp-socket.js";

/**
 * A map by remote address: by the port, which is a place in a table, then by the IP address, a text that is made anew with each
 * datagram and so is compared, and hashed only where peers share a port. Pages of the table stay. A Map would take as much
 * memory, and where peers come and go it makes a new table for every few of them, and keeps what the old ones held until a
 * full collection.
 */
export class AddressMap<Value> {
  readonly #pages: (Page<Value> | undefined)[] = emptyPlaces();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get({ address, port }: SocketAddress): Value | undefined {
    const place = this.#pages[port >> PAGE_BITS]?.[port & PAGE_MASK];
    if (place instanceof OnlyAddress) return place.address === address ? place.value : undefined;
    return place?.get(address);
  }

  set({ address, port }: SocketAddress, value: Value): void {
    const page = (this.#pages[port >> PAGE_BITS] ??= emptyPlaces());
    const at = port & PAGE_MASK;
    const place = page[at];
    if (place === undefined) {
      page[at] = new OnlyAddress(address, value);
      this.#size++;
    } else if (place instanceof Map) {
      if (!place.has(address)) this.#size++;
      place.set(address, value);
    } else if (place.address === address) {
      place.value = value;
    } else {
      page[at] = new Map<string, Value>().set(place.address, place.value).set(address, value);
      this.#size++;
    }
  }

  delete({ address, port }: SocketAddress): void {
    const page = this.#pages[port >> PAGE_BITS];
    const at = port & PAGE_MASK;
    const place = page?.[at];
    const isThere = place instanceof OnlyAddress ? place.address === address : place?.delete(address) === true;
    if (page === undefined || !isThere) return;
    this.#size--;
    if (place instanceof OnlyAddress || place?.size === 0) page[at] = undefined;
  }

  *values(): Generator<Value> {
    for (const page of this.#pages) {
      for (const place of page ?? []) {
        if (place instanceof OnlyAddress) yield place.value;
        else if (place !== undefined) yield* place.values();
      }
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

/** Of 256 ports that follow each other. */
type Page<Value> = (Map<string, Value> | OnlyAddress<Value> | undefined)[];

function emptyPlaces<Place>(): (Place | undefined)[] {
  return Array.from({ length: PAGE_MASK + 1 }, () => undefined);
}

const PAGE_BITS = 8;
const PAGE_MASK = 0xff;
