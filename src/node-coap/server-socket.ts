import { isIPv6, type AddressInfo } from "node:net";
import { type DtlsEndpoint, type DtlsSession, listen } from "#net/index.js";
import { CoapsSocketError, DatagramSocket, type SendTarget } from "./datagram-socket.js";

/**
 * A socket for `server.listen` of the npm package coap, which serves every association of a DTLS endpoint.
 *
 * coap knows a peer by address and port alone. Two associations may come from the same ones, one after the other, and
 * are not the same peer: so the address that coap is shown ends in the association's number, as `192.0.2.1%7`. An answer
 * then reaches only the association that asked, and a messageId is no duplicate of one of an earlier association.
 */
export class CoapsServerSocket extends DatagramSocket {
  readonly #sessions = new Map<string, DtlsSession>();
  #endpoint: DtlsEndpoint | undefined;
  #nextNumber = 1;

  /** For `listenCoaps`. */
  async listenOn(options: CoapsServerOptions): Promise<void> {
    this.#endpoint = await listen((session) => this.#add(session), options);
  }

  override address(): AddressInfo {
    const { address = "", port = 0 } = this.#endpoint?.address ?? {};
    return { address, port, family: isIPv6(address) ? "IPv6" : "IPv4" };
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  protected override transmit(data: Uint8Array, { host = "" }: SendTarget): Promise<void> {
    const session = this.#sessions.get(host);
    if (session === undefined) {
      return Promise.reject(new CoapsSocketError("NODE_COAP_NO_ASSOCIATION", "the peer's association is closed"));
    }
    try {
      session.send(data);
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  protected override async closeAssociations(): Promise<void> {
    await this.#endpoint?.close();
  }

  #add(session: DtlsSession): void {
    const { address, port } = session.remoteAddress;
    const shown = `${address}%${this.#nextNumber++}`;
    this.#sessions.set(shown, session);
    session.onmessage = (data) => this.deliver(data, session, shown, port);
    void session.closed.then(() => this.#sessions.delete(shown));
  }
}

/** What `listen` of dpe-coap/dtls takes: address, port, credentials, lookups and limits. */
export type CoapsServerOptions = Parameters<typeof listen>[1];

/** A bound socket for a coap server. @throws NetError and DtlsError as `listen` of dpe-coap/dtls does. */
export async function listenCoaps(options: CoapsServerOptions): Promise<CoapsServerSocket> {
  const socket = new CoapsServerSocket();
  try {
    await socket.listenOn(options);
  } catch (error) {
    socket.close();
    throw error;
  }
  return socket;
}
