import { monotonicNow, type SocketAddress, UdpSocket } from "#net/index.js";
import { type AccountingEvent, type AccountingOptions, AccountingServer } from "./accounting-server.js";

/** RADIUS accounting on a UDP socket. */
export class RadiusListener<Identity> {
  readonly accounting: AccountingServer<Identity>;
  readonly #socket: UdpSocket;
  readonly #sweeper: NodeJS.Timeout;

  private constructor(
    socket: UdpSocket,
    options: AccountingOptions<Identity>,
    onEvent: (event: AccountingEvent) => void,
  ) {
    this.#socket = socket;
    this.accounting = new AccountingServer(options);
    socket.onDatagram = (datagram, from) => {
      const answer = this.accounting.handleDatagram(datagram, from, monotonicNow());
      if (answer !== undefined) socket.send(answer, from);
      for (let event = this.accounting.poll(); event !== undefined; event = this.accounting.poll()) onEvent(event);
    };
    this.#sweeper = setInterval(() => this.accounting.sweep(monotonicNow()), SWEEP_INTERVAL_MS);
  }

  /** @throws NetError NET_PORT_IN_USE and those of binding. */
  static async listen<Identity>(
    at: { readonly host: string; readonly port: number },
    options: AccountingOptions<Identity>,
    onEvent: (event: AccountingEvent) => void = () => undefined,
  ): Promise<RadiusListener<Identity>> {
    return new RadiusListener(await UdpSocket.bind(at), options, onEvent);
  }

  get address(): SocketAddress {
    return this.#socket.address;
  }

  /** Who has an address now. */
  identityOf(address: string): Identity | undefined {
    return this.accounting.identityOf(address, monotonicNow());
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    await this.#socket.close();
  }
}

const SWEEP_INTERVAL_MS = 10_000;
