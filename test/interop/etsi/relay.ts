import { type SocketAddress, UdpSocket } from "#net/index.js";
import type { Scoped } from "#testing/peer-process.js";
import type { Seen } from "./seen.js";

/** Stands between a client and a server on UDP: it may lose datagrams, be cut, and tell `seen` of what passes. */
export class Relay {
  readonly #outside: UdpSocket;
  #isCut = false;
  #onLost: () => void = () => undefined;

  private constructor(outside: UdpSocket, inside: UdpSocket, server: SocketAddress, options: RelayOptions) {
    this.#outside = outside;
    const { seen, losesFromClient = [], losesFromServer = [] } = options;
    let client: SocketAddress | undefined;
    const pass = (isFromClient: boolean, lost: readonly number[]): ((datagram: Uint8Array) => void) => {
      let index = 0;
      return (datagram) => {
        // A peer of another test may still send, over DTLS, to the port that is the relay's now (RFC 7252 §3: ignored).
        if (seen !== undefined && (datagram[0] ?? 0) >> 6 !== COAP_VERSION) return;
        seen?.take(datagram, isFromClient);
        // Of DTLS only its data count: a handshake has repetitions of its own.
        const isData = seen !== undefined || APPLICATION_DATA.includes(datagram[0] ?? 0);
        if (this.#isCut && !isFromClient && isData) this.#onLost();
        if ((this.#isCut && !isFromClient) || (isData && lost.includes(index++))) return;
        if (isFromClient) inside.send(datagram, server);
        else if (client !== undefined) outside.send(datagram, client);
      };
    };
    const fromClient = pass(true, losesFromClient);
    outside.onDatagram = (datagram, from) => {
      client = { address: from.address, port: from.port };
      fromClient(datagram);
    };
    inside.onDatagram = pass(false, losesFromServer);
  }

  static async start(scope: Scoped, serverPort: number, options: RelayOptions): Promise<Relay> {
    const outside = await UdpSocket.bind({ host: "127.0.0.1" });
    const inside = await UdpSocket.bind({ host: "127.0.0.1" });
    const relay = new Relay(outside, inside, { address: "127.0.0.1", port: serverPort }, options);
    scope.teardown(async () => {
      await Promise.all([outside.close(), inside.close()]);
    });
    return relay;
  }

  get port(): number {
    return this.#outside.address.port;
  }

  /**
   * The client hears nothing any more; what it had sent still arrives, so that what it had of the server is acknowledged.
   * `onLost` is told of each message of the server, which over DTLS nobody here can read.
   */
  cut(onLost: () => void): void {
    this.#isCut = true;
    this.#onLost = onLost;
  }
}

export interface RelayOptions {
  /** Where what passes is plain CoAP. */
  readonly seen?: Seen;
  /** Which of the datagrams of a side are lost, by their number. */
  readonly losesFromClient?: readonly number[];
  readonly losesFromServer?: readonly number[];
}

/** Content types of records: application data, and what carries a connection identifier. */
const APPLICATION_DATA = [23, 25];

const COAP_VERSION = 1;
