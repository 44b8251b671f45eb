import { AddressMap } from "./address-map.js";
import type { DtlsSession } from "./dtls-session.js";
import { SlotTable } from "./slot-table.js";
import type { SocketAddress } from "./udp-socket.js";

/**
 * The sessions of an endpoint, those included that shake hands still. A datagram finds its session by the connection
 * identifier that it carries (RFC 9146), else by the address that the session's handshake came from, both in constant time.
 *
 * An address has an open session, a handshake, or both, while the peer begins anew (RFC 6347 §4.2.8). Nearly always it has one
 * of them, which has the one place that is looked at, from its ClientHello to its end.
 */
export class SessionTable {
  /** Open ones. */
  readonly #sessions = new SlotTable<DtlsSession>();
  /** The open session of an address, or its handshake, where it has only that. */
  readonly #byAddress = new AddressMap<DtlsSession>();
  /** The handshakes of addresses that have an open session. */
  readonly #renewals = new AddressMap<DtlsSession>();
  readonly #byConnectionId = new Map<string, DtlsSession>();
  /** How many sessions have identifiers of a length: nearly always there is one length. */
  readonly #lengths = new Map<number, number>();
  /** By IP address. */
  readonly #counts = new Map<string, AddressCount>();
  #handshakeCount = 0;

  /** Of open sessions. */
  get size(): number {
    return this.#sessions.size;
  }

  get handshakeCount(): number {
    return this.#handshakeCount;
  }

  /** Open ones. */
  [Symbol.iterator](): Generator<DtlsSession> {
    return this.#sessions[Symbol.iterator]();
  }

  /** Another open one at each call, all by turns. */
  next(): DtlsSession | undefined {
    return this.#sessions.next();
  }

  *handshakes(): Generator<DtlsSession> {
    for (const session of this.#byAddress.values()) if (!this.#sessions.has(session)) yield session;
    yield* this.#renewals.values();
  }

  /** How many an IP address has, by where their handshakes came from. */
  countOf(address: string): Readonly<AddressCount> {
    return this.#counts.get(address) ?? NONE;
  }

  /** The open session, or the handshake where there is none. */
  ofAddress(address: SocketAddress): DtlsSession | undefined {
    return this.#byAddress.get(address);
  }

  /** The handshake beside an open session. */
  renewalAt(address: SocketAddress): DtlsSession | undefined {
    return this.#renewals.size === 0 ? undefined : this.#renewals.get(address);
  }

  handshakeAt(address: SocketAddress): DtlsSession | undefined {
    const session = this.#byAddress.get(address);
    return session !== undefined && this.#sessions.has(session) ? this.renewalAt(address) : session;
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
    return connectionId.length > 0 && this.#byConnectionId.has(textOf(connectionId));
  }

  /** Adds a handshake, of an address that has no other. */
  begin(session: DtlsSession): void {
    const { handshakeAddress } = session;
    const isRenewal = this.#byAddress.get(handshakeAddress) !== undefined;
    (isRenewal ? this.#renewals : this.#byAddress).set(handshakeAddress, session);
    this.#handshakeCount++;
    this.#count(handshakeAddress).handshakes++;
  }

  /** A handshake is complete. Gives back the session that was open at the address before, if any: it is found there no more. */
  open(session: DtlsSession): DtlsSession | undefined {
    const { handshakeAddress } = session;
    if (this.renewalAt(handshakeAddress) === session) this.#renewals.delete(handshakeAddress);
    this.#handshakeCount--;
    this.#count(handshakeAddress).handshakes--;
    return this.add(session);
  }

  /** Adds an open session that no handshake was seen of; gives back what `open` does. */
  add(session: DtlsSession): DtlsSession | undefined {
    const { connectionId, handshakeAddress } = session;
    const earlier = this.#byAddress.get(handshakeAddress);
    this.#sessions.add(session);
    this.#count(handshakeAddress).sessions++;
    if (earlier !== session) this.#byAddress.set(handshakeAddress, session);
    if (connectionId.length > 0) {
      this.#byConnectionId.set(textOf(connectionId), session);
      this.#lengths.set(connectionId.length, (this.#lengths.get(connectionId.length) ?? 0) + 1);
    }
    return earlier === session ? undefined : earlier;
  }

  /** Gives whether it was open; if not, its handshake has failed. */
  delete(session: DtlsSession): boolean {
    const { handshakeAddress } = session;
    const wasOpen = this.#sessions.delete(session);
    const count = this.#count(handshakeAddress);
    if (wasOpen) {
      count.sessions--;
      this.#forgetConnectionId(session);
    } else {
      count.handshakes--;
      this.#handshakeCount--;
    }
    if (count.sessions + count.handshakes === 0) this.#counts.delete(handshakeAddress.address);
    this.#vacate(session);
    return wasOpen;
  }

  /** With an open session its handshake beside it takes the place. */
  #vacate(session: DtlsSession): void {
    const { handshakeAddress } = session;
    const renewal = this.renewalAt(handshakeAddress);
    const hasPlace = this.#byAddress.get(handshakeAddress) === session;
    if (renewal !== undefined && (hasPlace || renewal === session)) this.#renewals.delete(handshakeAddress);
    if (!hasPlace) return;
    if (renewal === undefined) this.#byAddress.delete(handshakeAddress);
    else this.#byAddress.set(handshakeAddress, renewal);
  }

  #forgetConnectionId(session: DtlsSession): void {
    const { connectionId } = session;
    if (connectionId.length === 0) return;
    const key = textOf(connectionId);
    if (this.#byConnectionId.get(key) === session) this.#byConnectionId.delete(key);
    const left = (this.#lengths.get(connectionId.length) ?? 1) - 1;
    if (left === 0) this.#lengths.delete(connectionId.length);
    else this.#lengths.set(connectionId.length, left);
  }

  #count({ address }: SocketAddress): AddressCount {
    let count = this.#counts.get(address);
    if (count === undefined) {
      count = { handshakes: 0, sessions: 0 };
      this.#counts.set(address, count);
    }
    return count;
  }
}

interface AddressCount {
  handshakes: number;
  sessions: number;
}

function textOf(connectionId: Uint8Array): string {
  return Buffer.from(connectionId.buffer, connectionId.byteOffset, connectionId.byteLength).toString("latin1");
}

/** RFC 9146 §4. */
const CONNECTION_ID_AT = 11;
const NONE: Readonly<AddressCount> = { handshakes: 0, sessions: 0 };
