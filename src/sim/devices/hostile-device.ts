import { type AgentConfig, DpeAgent } from "#agent/index.js";
import { type SocketAddress, UdpSocket } from "#net/index.js";
import type { FleetFigures } from "../report/fleet-figures.js";
import { SeededRandom } from "../seeded-random.js";

/**
 * A device that means harm, within a bound of datagrams a second: handshakes never finished, from ever new ports; replays of
 * what it sent; garbage; malformed CoAP; and a wrong password, over and over.
 */
export class HostileDevice {
  readonly #options: HostileOptions;
  readonly #random: SeededRandom;
  readonly #sockets: UdpSocket[] = [];
  readonly #sent: Uint8Array[] = [];
  #timer: NodeJS.Timeout | undefined;
  #agent: DpeAgent | undefined;
  #isStopped = false;

  readonly isUp = false;
  readonly unsent = 0;

  constructor(options: HostileOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
  }

  start(): void {
    this.#guess();
    this.#timer = setInterval(() => void this.#attack(), 1000 / this.#options.datagramsPerSecond);
  }

  quieten(): void {
    clearInterval(this.#timer);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await this.#agent?.close();
    await Promise.all(this.#sockets.map((socket) => socket.close()));
  }

  /** A wrong password, and again as soon as it was refused. */
  #guess(): void {
    if (this.#isStopped) return;
    const agent = new DpeAgent(this.#options.wrongConfig, []);
    this.#agent = agent;
    void agent.stopped.then(
      () => undefined,
      () => {
        this.#options.figures.add("refused");
        if (!this.#isStopped) setTimeout(() => this.#guess(), GUESS_PAUSE_MS);
      },
    );
  }

  async #attack(): Promise<void> {
    const socket = await this.#socket();
    if (this.#isStopped) return;
    const replayed = this.#sent[this.#random.below(this.#sent.length)];
    const datagram =
      replayed !== undefined && this.#random.chance(0.25) ? replayed : this.#datagram(this.#random.below(4));
    if (this.#sent.length < MAX_REMEMBERED) this.#sent.push(datagram);
    socket.send(datagram, this.#options.server);
    this.#options.figures.add("attacks");
  }

  /** Some sockets, of which now and then one is replaced: most datagrams come from a new port. */
  async #socket(): Promise<UdpSocket> {
    const index = this.#random.below(MAX_SOCKETS);
    const known = this.#sockets[index];
    if (known !== undefined && !this.#random.chance(0.1)) return known;
    const socket = await UdpSocket.bind({ host: this.#options.server.address.includes(":") ? "::" : "0.0.0.0" });
    // Its answers are not read: that is what makes the handshakes half ones.
    socket.onDatagram = () => undefined;
    if (this.#isStopped || (known === undefined && this.#sockets.length >= MAX_SOCKETS)) {
      await socket.close();
      return known ?? this.#sockets[0] ?? socket;
    }
    await known?.close();
    this.#sockets[known === undefined ? this.#sockets.length : index] = socket;
    return socket;
  }

  #datagram(kind: number): Uint8Array {
    switch (kind) {
      case 0:
        return this.#clientHello();
      case 1:
        return this.#bytes(1 + this.#random.below(1200));
      case 2:
        // A record that claims to be protected, of epoch 1 (RFC 6347 §4.1).
        return this.#record(23, 1, this.#bytes(40));
      default:
        // CoAP with an option longer than the message (RFC 7252 §3.1).
        return Uint8Array.of(0x40, 0x01, this.#random.below(256), this.#random.below(256), 0xdd, 0xff, 0xff);
    }
  }

  /** RFC 5246 §7.4.1.2 in RFC 6347 §4.2.2: well-formed, with a PSK suite, and without a cookie. */
  #clientHello(): Uint8Array {
    const body = Uint8Array.of(0xfe, 0xfd, ...this.#bytes(32), 0, 0, 0, 2, 0xc0, 0xa8, 1, 0);
    const length = body.length;
    return this.#record(22, 0, Uint8Array.of(1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length, ...body));
  }

  #record(type: number, epoch: number, fragment: Uint8Array): Uint8Array {
    const { length } = fragment;
    const sequence = this.#random.below(256);
    return Uint8Array.of(type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, sequence, length >> 8, length & 0xff, ...fragment);
  }

  #bytes(length: number): Uint8Array {
    return this.#random.bytes(length);
  }
}

export interface HostileOptions {
  readonly server: SocketAddress;
  /** An agent's configuration whose credentials are wrong. */
  readonly wrongConfig: AgentConfig;
  /** Of one device. */
  readonly datagramsPerSecond: number;
  readonly seed: number;
  readonly figures: FleetFigures;
}

const MAX_SOCKETS = 16;
const MAX_REMEMBERED = 64;
const GUESS_PAUSE_MS = 500;
