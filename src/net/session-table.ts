import { AddressMap } from "./address-map.js";
import type { DtlsSession } from "./dtls-session.js";
import type { SocketAddress } from "./udp-socket.js";

/**
 * The open sessions of an endpoint. A datagram finds its session by the connection identifier that it carries (RFC 9146),
 * else by the address that the session's handshake came from, both in constant time.
 */
export class SessionTable {
  readonly #sessions = new Set<DtlsSession>();
  readonly #byAddress = new AddressMap<DtlsSession>();
  readonly #byConnectionId = new Map<string, DtlsSession>();
  /** How many sessions have identifiers of a length: nearly always there is one length. */
  readonly #lengths = new Map<number, number>();

  get size(): number {
    return this.#sessions.size;
  }

  /** In order of the last {@link keep}, or of opening. */
  [Symbol.iterator](): IterableIterator<DtlsSession> {
    return this.#sessions.values();
  }

  ofAddress(address: SocketAddress): DtlsSession | undefined {
    return this.#byAddress.get(address);
  }

  /** By the record that the datagram begins with, whose content type is tls12_cid. */
  ofConnectionIdIn(datagram: Uint8Array): DtlsSession | undefined {
    for (const length of this.#lengths.keys()) {
      const session = this.#byConnectionId.get(textOf(datagram.subarray(CONNECTION_ID_AT, CONNECTION_ID_AT + length)));
      if (session !== undefined) return session;
    }
    return undefined;
  }

  hasConnectionId(connectionId: Uint8Array): boolean {
    return this.#byConnectionId.has(textOf(connectionId));
  }

  /** Gives back the session that shook hands at the same address before, if any: it is found there no more. */
  add(session: DtlsSession): DtlsSession | undefined {
    const { connectionId, handshakeAddress } = session;
    const earlier = this.#byAddress.get(handshakeAddress);
    this.#sessions.add(session);
    this.#byAddress.set(handshakeAddress, session);
    if (connectionId.length > 0) {
      this.#byConnectionId.set(textOf(connectionId), session);
      this.#lengths.set(connectionId.length, (this.#lengths.get(connectionId.length) ?? 0) + 1);
    }
    return earlier;
  }

  delete(session: DtlsSession): boolean {
    if (!this.#sessions.delete(session)) return false;
    const { connectionId, handshakeAddress } = session;
    if (this.#byAddress.get(handshakeAddress) === session) this.#byAddress.delete(handshakeAddress);
    if (connectionId.length > 0) {
      const key = textOf(connectionId);
      if (this.#byConnectionId.get(key) === session) this.#byConnectionId.delete(key);
      const left = (this.#lengths.get(connectionId.length) ?? 1) - 1;
      if (left === 0) this.#lengths.delete(connectionId.length);
      else this.#lengths.set(connectionId.length, left);
    }
    return true;
  }

  /** Puts a session at the end of the order. */
  keep(session: DtlsSession): void {
    if (this.#sessions.delete(session)) this.#sessions.add(session);
  }
}

function textOf(connectionId: Uint8Array): string {
  return Buffer.from(connectionId.buffer, connectionId.byteOffset, connectionId.byteLength).toString("latin1");
}

/** RFC 9146 §4. */
const CONNECTION_ID_AT = 11;
