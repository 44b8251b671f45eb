import { type SocketAddress, UdpSocket } from "#net/index.js";

/** A NAT on 127.0.0.1: each inside address has a socket of its own toward the server, until it is rebound. */
export class NatRelay {
  readonly #inside: UdpSocket;
  readonly #server: SocketAddress;
  readonly #bindings = new Map<string, Promise<UdpSocket>>();

  readonly #retired: UdpSocket[] = [];

  private constructor(inside: UdpSocket, server: SocketAddress) {
    this.#inside = inside;
    this.#server = server;
    inside.onDatagram = (datagram, from) => void this.#forward(Uint8Array.from(datagram), from);
  }

  static async start(server: SocketAddress): Promise<NatRelay> {
    const receiveBufferBytes = 8 * 1024 * 1024;
    return new NatRelay(await UdpSocket.bind({ host: "127.0.0.1", receiveBufferBytes }), server);
  }

  get address(): SocketAddress {
    return this.#inside.address;
  }

  get bindingCount(): number {
    return this.#bindings.size;
  }

  /** Forgets every binding: the next datagram of each inside address comes from a new port. */
  async rebind(): Promise<void> {
    for (const binding of this.#bindings.values()) {
      const socket = await binding;
      socket.onDatagram = undefined;
      // Open still: else the system might give one of its ports out again, even to the same inside address.
      this.#retired.push(socket);
    }
    this.#bindings.clear();
  }

  async close(): Promise<void> {
    await this.rebind();
    await Promise.all([this.#inside, ...this.#retired].map((socket) => socket.close()));
  }

  async #forward(datagram: Uint8Array, from: SocketAddress): Promise<void> {
    const inside = { address: from.address, port: from.port };
    let binding = this.#bindings.get(String(from.port));
    if (binding === undefined) {
      binding = this.#open(inside);
      this.#bindings.set(String(from.port), binding);
    }
    (await binding).send(datagram, this.#server);
  }

  async #open(inside: SocketAddress): Promise<UdpSocket> {
    const outside = await UdpSocket.bind({ host: "127.0.0.1" });
    outside.onDatagram = (datagram) => this.#inside.send(datagram, inside);
    return outside;
  }
}
