import { CoapError } from "#coap/index.js";
import { AddressMap } from "./address-map.js";
import type { CoapConnection } from "./coap-connection.js";
import type { SocketAddress, UdpSocket } from "./udp-socket.js";

/** The peers that are spoken with on one plain socket, by address: made when they are heard of, and forgotten when idle. */
export class PlainPeers implements PlainTransport {
  readonly #surroundings: PlainSurroundings;
  readonly #limit: number;
  readonly #connections = new AddressMap<CoapConnection>();
  /** The same in the order in which they are looked at when one must make room. */
  readonly #order = new Set<CoapConnection>();

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
    const known = this.#connections.get(remote);
    if (known?.isClosed === false) {
      known.wasUsed = true;
      return known;
    }
    if (known !== undefined) this.#forget(known);
    if (this.#order.size >= this.#limit && !this.#forgetOne()) return undefined;
    const connection = this.#surroundings.open({ address: remote.address, port: remote.port });
    this.#connections.set(remote, connection);
    this.#order.add(connection);
    return connection;
  }

  /**
   * Makes room for one that was not used since it was looked at last. Few of those that must stay are looked at, so that a
   * flood of false addresses costs no more than its datagrams; each is looked at again when its turn comes.
   */
  #forgetOne(): boolean {
    let looked = 0;
    for (const connection of this.#order) {
      if (connection.isClosed || (!connection.wasUsed && this.#surroundings.isDispensable(connection))) {
        this.#forget(connection);
        this.#surroundings.close(connection);
        return true;
      }
      this.#order.delete(connection);
      this.#order.add(connection);
      // One that was used since has paid for the look by its datagram.
      if (connection.wasUsed) connection.wasUsed = false;
      else if (++looked === MAX_LOOKED_AT) return false;
    }
    return false;
  }

  #forget(connection: CoapConnection): void {
    this.#order.delete(connection);
    this.#connections.delete(connection.remoteAddress);
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

export const DEFAULT_MAX_PLAIN_PEERS = 10_000;
const MAX_LOOKED_AT = 16;
