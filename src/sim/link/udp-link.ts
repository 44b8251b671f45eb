import { type SocketAddress, UdpSocket } from "#net/index.js";
import { SeededRandom } from "../seeded-random.js";
import { type LinkChange, type LinkConditions, PERFECT_LINK } from "./link-conditions.js";

/**
 * A bad network between devices and a server, as a UDP relay that needs no privileges: devices send to it, and it sends on
 * from a socket of its own for each device, as a NAT would. What it does to datagrams is decided by its seed.
 */
export class UdpLink {
  readonly counters = { forwarded: 0, lost: 0, duplicated: 0, corrupted: 0, reordered: 0, oversized: 0, rebound: 0 };

  readonly #to: SocketAddress;
  readonly #random: SeededRandom;
  readonly #maxDevices: number;
  readonly #front: UdpSocket;
  readonly #paths = new Map<string, Path>();
  readonly #late = new Set<NodeJS.Timeout>();
  readonly #schedule: readonly NodeJS.Timeout[];
  #conditions: LinkConditions;
  #isClosed = false;

  private constructor(front: UdpSocket, options: UdpLinkOptions) {
    this.#front = front;
    this.#to = options.to;
    this.#random = new SeededRandom(options.seed ?? 1);
    this.#maxDevices = options.maxDevices ?? DEFAULT_MAX_DEVICES;
    this.#conditions = { ...PERFECT_LINK, ...options.conditions };
    front.onDatagram = (datagram, from) => this.#receive(datagram, from);
    this.#schedule = (options.schedule ?? []).map((change) => setTimeout(() => this.#change(change), change.atMs));
  }

  /** @throws NetError as UdpSocket.bind does. */
  static async open(options: UdpLinkOptions): Promise<UdpLink> {
    return new UdpLink(await UdpSocket.bind({ ...options.listen, receiveBufferBytes: BUFFER_BYTES }), options);
  }

  /** Where devices send to. */
  get address(): SocketAddress {
    return this.#front.address;
  }

  /** Addresses of devices that were heard; a device that looks for its server beside an association has two. */
  get paths(): number {
    return this.#paths.size;
  }

  setConditions(conditions: Partial<LinkConditions>): void {
    this.#conditions = { ...this.#conditions, ...conditions };
  }

  /** From now on the server sees every device at another port. */
  async rebind(): Promise<void> {
    await Promise.all(
      [...this.#paths.values()].map(async (path) => {
        const old = path.back;
        path.back = this.#open(path.device);
        this.counters.rebound += 1;
        await (await old).close();
      }),
    );
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of [...this.#schedule, ...this.#late]) clearTimeout(timer);
    await this.#front.close();
    await Promise.all([...this.#paths.values()].map(async ({ back }) => (await back).close()));
  }

  #change({ conditions, rebind }: LinkChange): void {
    this.setConditions(conditions);
    if (rebind) void this.rebind();
  }

  #receive(datagram: Uint8Array, from: SocketAddress): void {
    const key = `${from.address} ${from.port}`;
    let path = this.#paths.get(key);
    if (path === undefined) {
      if (this.#paths.size >= this.#maxDevices) return;
      const device = { address: from.address, port: from.port };
      path = { device, back: this.#open(device) };
      this.#paths.set(key, path);
    }
    const { back } = path;
    this.#pass(datagram, (bytes) => void back.then((socket) => socket.send(bytes, this.#to)));
  }

  async #open(device: SocketAddress): Promise<UdpSocket> {
    const host = this.#to.address.includes(":") ? "::" : "0.0.0.0";
    const socket = await UdpSocket.bind({ host, receiveBufferBytes: BUFFER_BYTES });
    socket.onDatagram = (datagram) => this.#pass(datagram, (bytes) => this.#front.send(bytes, device));
    return socket;
  }

  #pass(datagram: Uint8Array, send: (bytes: Uint8Array) => void): void {
    const { loss, duplication, mtu, isCut } = this.#conditions;
    if (datagram.length > mtu) {
      this.counters.oversized += 1;
      return;
    }
    if (isCut || this.#random.chance(loss)) {
      this.counters.lost += 1;
      return;
    }
    this.#forward(datagram, send);
    if (this.#random.chance(duplication)) {
      this.counters.duplicated += 1;
      this.#forward(datagram, send);
    }
  }

  #forward(datagram: Uint8Array, send: (bytes: Uint8Array) => void): void {
    const { corruption, reordering, delay, jitter } = this.#conditions;
    const bytes = Uint8Array.from(datagram);
    if (bytes.length > 0 && this.#random.chance(corruption)) {
      const at = this.#random.below(bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << this.#random.below(8));
      this.counters.corrupted += 1;
    }
    let waitMs = delay + jitter * this.#random.next();
    if (this.#random.chance(reordering)) {
      waitMs += 4 * (delay + jitter + 1) * this.#random.next();
      this.counters.reordered += 1;
    }
    this.counters.forwarded += 1;
    if (waitMs === 0) {
      send(bytes);
      return;
    }
    const timer = setTimeout(() => {
      this.#late.delete(timer);
      if (!this.#isClosed) send(bytes);
    }, waitMs);
    this.#late.add(timer);
  }
}

export interface UdpLinkOptions {
  /** Default 127.0.0.1 and any free port. */
  readonly listen: { readonly host: string; readonly port?: number };
  /** The server, by address. */
  readonly to: SocketAddress;
  readonly conditions?: Partial<LinkConditions>;
  readonly schedule?: readonly LinkChange[];
  /** Default 1. The same seed makes the same decisions for the same datagrams in the same order. */
  readonly seed?: number;
  /** Default 10,000: datagrams of further devices are dropped. */
  readonly maxDevices?: number;
}

interface Path {
  readonly device: SocketAddress;
  back: Promise<UdpSocket>;
}

const DEFAULT_MAX_DEVICES = 10_000;
const BUFFER_BYTES = 4 * 1024 * 1024;
