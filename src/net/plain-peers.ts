import { CoapError } from "#coap/index.js";
import type { CoapConnection } from "./coap-connection.js";
import type { SocketAddress, UdpSocket } from "./udp-socket.js";

/** The peers that are spoken with on one plain socket, by address: made when they are heard of, and forgotten when idle. */
export class PlainPeers implements PlainTransport {
  readonly #surroundings: PlainSurroundings;
  readonly #limit: number;
  /** In order of use, so that the one idle longest is found first. */
  readonly #connections = new Map<string, CoapConnection>();

  constructor(socket: UdpSocket, limit: number, surroundings: PlainSurroundings) {
    this.#limit = limit;
    this.#surroundings = surroundings;
    socket.onDatagram = (datagram, from) => {
      const connection = this.#connectionTo(from);
      if (connection !== undefined) surroundings.receive(connection, datagram);
    };
  }

  connectTo(remote: SocketAddress): CoapConnection {
    const connection = this.#connectionTo(remote);
    if (connection === undefined)
      throw new CoapError("COAP_LIMIT_REACHED", `${this.#limit} peers are being spoken with already`);
    return connection;
  }

  #connectionTo(remote: SocketAddress): CoapConnection | undefined {
    const key = `${remote.address} ${remote.port}`;
    let connection = this.#connections.get(key);
    if (connection?.isClosed === true) connection = undefined;
    this.#connections.delete(key);
    if (connection === undefined) {
      if (this.#connections.size >= this.#limit && !this.#forgetOne()) return undefined;
      connection = this.#surroundings.open({ address: remote.address, port: remote.port });
    }
    this.#connections.set(key, connection);
    return connection;
  }

  /**
   * Makes room for one. Only the few that were heard longest ago are looked at, so that a flood of false addresses costs no
   * more than its datagrams; one of them that must stay is looked at again when its turn comes.
   */
  #forgetOne(): boolean {
    let looked = 0;
    for (const [key, connection] of this.#connections) {
      this.#connections.delete(key);
      if (connection.isClosed || this.#surroundings.isDispensable(connection)) {
        this.#surroundings.close(connection);
        return true;
      }
      this.#connections.set(key, connection);
      if (++looked === MAX_LOOKED_AT) return false;
    }
    return false;
  }
}

/** A plain socket that an endpoint speaks CoAP on. */
export interface PlainTransport {
  /** @throws CoapError COAP_LIMIT_REACHED. */
  connectTo(remote: SocketAddress): CoapConnection;
}

/** What the peers of a socket need of their endpoint. */
export interface PlainSurroundings {
  open(remote: SocketAddress): CoapConnection;
  receive(connection: CoapConnection, datagram: Uint8Array): void;
  /** Whether nothing is lost by forgetting it, or only what keeps duplicates of an address that has shown nothing from being handled twice. */
  isDispensable(connection: CoapConnection): boolean;
  close(connection: CoapConnection): void;
}

const MAX_LOOKED_AT = 16;
