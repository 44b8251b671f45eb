import type { AddressInfo } from "node:net";
import { isIP } from "node:net";
import { connect, type DtlsSession, untilOpened } from "#net/index.js";
import { CoapsSocketError, DatagramSocket, type SendTarget } from "./datagram-socket.js";

/**
 * A socket for an Agent of the npm package coap: each host and port that a request names gets a DTLS association of its own,
 * opened by the first message and used by all others. A failed handshake fails the request with its DtlsError.
 */
export class CoapsClientSocket extends DatagramSocket {
  readonly #options: CoapsClientOptions;
  readonly #associations = new Map<string, Promise<DtlsSession>>();
  readonly #closing = new AbortController();

  constructor(options: CoapsClientOptions) {
    super();
    this.#options = options;
  }

  /** Each association has a UDP socket of its own: there is no one address. */
  override address(): AddressInfo {
    return { address: "0.0.0.0", family: "IPv4", port: 0 };
  }

  /** Hosts and ports with an association, or one on its way. */
  get peerCount(): number {
    return this.#associations.size;
  }

  protected override async transmit(data: Uint8Array, { host, port }: SendTarget): Promise<void> {
    if (host === undefined) throw new CoapsSocketError("NODE_COAP_NO_HOST", "the request names no host");
    const session = await this.#associationWith(host, port);
    session.send(data);
  }

  protected override async closeAssociations(): Promise<void> {
    this.#closing.abort();
    const closing = [...this.#associations.values()].map((opening) =>
      opening.then((session) => session.close(), ignore),
    );
    this.#associations.clear();
    await Promise.all(closing);
  }

  #associationWith(host: string, port: number): Promise<DtlsSession> {
    const key = `${host} ${port}`;
    const known = this.#associations.get(key);
    if (known !== undefined) return known;
    const limit = this.#options.maxPeers ?? DEFAULT_MAX_PEERS;
    if (this.#associations.size >= limit) {
      const error = new CoapsSocketError("NODE_COAP_TOO_MANY_PEERS", `${limit} associations are open already`);
      return Promise.reject(error);
    }
    const opening = this.#open(host, port);
    this.#associations.set(key, opening);
    const forget = (): void => {
      if (this.#associations.get(key) === opening) this.#associations.delete(key);
    };
    opening.then((session) => void session.closed.then(forget), forget);
    return opening;
  }

  async #open(host: string, port: number): Promise<DtlsSession> {
    const { connectOptions } = this.#options;
    const options = typeof connectOptions === "function" ? connectOptions(host, port) : connectOptions;
    const serverName = isIP(host) === 0 ? { serverName: host } : {};
    const session = await connect({ host, port }, { ...serverName, ...options });
    session.onmessage = (data) => this.deliver(data, session, session.remoteAddress.address, port);
    return untilOpened(session, this.#closing.signal);
  }
}

export interface CoapsClientOptions {
  /**
   * What `connect` of dpe-coap/dtls takes: the PSK, or the certificate and the verifier. A function is asked for each peer:
   * a verifier that is to check the peer's name has to know which it is.
   */
  readonly connectOptions: ConnectOptions | ((host: string, port: number) => ConnectOptions);
  /** Associations at once. Default 1000; at the limit a request to another peer fails. */
  readonly maxPeers?: number;
}

type ConnectOptions = Parameters<typeof connect>[1];

const DEFAULT_MAX_PEERS = 1000;
function ignore(): void {}
