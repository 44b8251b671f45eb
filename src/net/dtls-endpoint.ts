import { randomBytes } from "node:crypto";
import {
  Association,
  type CertificateVerdict,
  type ClientOptions,
  DtlsError,
  ServerGate,
  type ServerOptions,
  SharedKeys,
} from "#dtls/index.js";
import { addressBytes } from "./address-bytes.js";
import { decodeSessionState } from "./association-store.js";
import { DtlsSession } from "./dtls-session.js";
import {
  type EndpointDropReason,
  type EndpointLimits,
  type EndpointOptions,
  resolveLimits,
} from "./endpoint-options.js";
import { NetError } from "./net-error.js";
import { pooledRandom } from "./random-pool.js";
import { RecordJoiner } from "./record-joiner.js";
import { type RestoredCounts, SessionKeeper } from "./session-keeper.js";
import type { SessionSurroundings } from "./session-surroundings.js";
import { SessionTable } from "./session-table.js";
import { SessionTimers } from "./session-timers.js";
import { monotonicNow, type SocketAddress, type UdpSocket } from "./udp-socket.js";

/**
 * Many DTLS associations over one UDP socket: the endpoint of Node's experimental `node:dtls`. A session with a connection
 * identifier (RFC 9146) is found by it, wherever its peer sends from; one without belongs to the peer's address, and a new
 * handshake from there replaces it when it is complete (RFC 6347 §4.2.8).
 */
export class DtlsEndpoint {
  /** What was dropped, by reason: by sessions, closed ones included, and before any. */
  readonly dropped: Partial<Record<EndpointDropReason, number>> = {};

  readonly #socket: UdpSocket;
  readonly #options: EndpointOptions;
  readonly #limits: EndpointLimits;
  /** Where the datagram at hand came from. */
  #from: SocketAddress = NOWHERE;
  #gate: ServerGate | undefined;
  readonly #sessions = new SessionTable();
  readonly #timers = new SessionTimers();
  readonly #random = pooledRandom();
  readonly #joiner: RecordJoiner<DtlsSession>;
  readonly #keeper: SessionKeeper;
  readonly #sweeper: NodeJS.Timeout | undefined;
  #onSession: ((session: DtlsSession) => void) | undefined;
  #isClosed = false;

  constructor(socket: UdpSocket, options: EndpointOptions, onSession?: (session: DtlsSession) => void) {
    this.#socket = socket;
    this.#options = options;
    this.#limits = resolveLimits(options);
    this.#onSession = onSession;
    this.#joiner = new RecordJoiner((parts, session) => socket.sendJoined(parts, session.remoteAddress));
    this.#gate = options.server === undefined ? undefined : new ServerGate(this.#serverOptions(options.server));
    this.#keeper = new SessionKeeper(options.associations, (what, error) => options.onFault?.(what, error));
    if (options.server !== undefined) this.#sweeper = this.#startSweeping();
    socket.onDatagram = (datagram, from) => this.#receive(datagram, from);
    if (options.steering !== undefined)
      options.steering.onDatagram = (datagram, from) => this.#receiveSteered(datagram, from);
  }

  get address(): SocketAddress {
    return this.#socket.address;
  }

  /** Sessions whose handshake is complete. */
  get sessions(): Iterable<DtlsSession> {
    return this.#sessions;
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  get handshakeCount(): number {
    return this.#sessions.handshakeCount;
  }

  /** Begins a handshake toward an address. @throws NetError NET_CLOSED; DtlsError DTLS_BAD_OPTION. */
  connect(remote: SocketAddress, options: ClientOptions): DtlsSession {
    if (this.#isClosed) throw new NetError("NET_CLOSED", "the endpoint is closed");
    const { connectionId } = options;
    const own = {
      onDrop: this.#onDropBeside(options.onDrop),
      ...(connectionId === undefined ? {} : { connectionId: this.#freeConnectionIds(connectionId) }),
    };
    const association = Association.connect({ ...options, ...own }, monotonicNow());
    const session = this.#newSession(association, remote);
    session.pump();
    return session;
  }

  /**
   * New handshakes use these options. Those under way are ended, since they began with others; sessions go on, but none can
   * be resumed by a ticket from before: what it rests on may be what has changed.
   *
   * @throws DtlsError DTLS_BAD_OPTION, changing nothing.
   */
  replaceServer(server: ServerOptions): void {
    this.#gate = new ServerGate(this.#serverOptions(server));
    for (const handshake of this.#sessions.handshakes()) void handshake.close();
  }

  /**
   * Goes on with the sessions that the option `associations` kept, as `onSession` is told of each. To be called once,
   * before anything else. Gives how many there were, and how many of them were of no use.
   */
  restore(): RestoredCounts {
    return this.#keeper.restore((state, adopt) => this.#revive(state, adopt));
  }

  /** Saves the sessions, where there is a store for them, or closes them in order; then closes the socket. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#onSession = undefined;
    clearInterval(this.#sweeper);
    this.#keeper.close(this.#sessions);
    await Promise.all([...this.#sessions, ...this.#sessions.handshakes()].map((session) => session.close()));
    this.#timers.close();
    await Promise.all([this.#socket.close(), this.#options.steering?.close()]);
  }

  #receive(datagram: Uint8Array, from: SocketAddress): void {
    const now = monotonicNow();
    this.#from = from;
    const hasConnectionId = datagram[0] === TLS12_CID;
    const found = hasConnectionId ? this.#sessions.ofConnectionIdIn(datagram) : undefined;
    if (found !== undefined) {
      found.receive(datagram, now, from);
      return;
    }
    if (hasConnectionId && this.#options.steering?.forward(datagram, from) === true) return;
    const session = hasConnectionId ? this.#sessions.handshakeAt(from) : this.#sessions.ofAddress(from);
    if (session === undefined) {
      if (hasConnectionId) this.#drop("unknown-connection-id", from);
      else this.#receiveAtGate(datagram, from, now);
      return;
    }
    const renewal = hasConnectionId ? undefined : this.#sessions.renewalAt(from);
    // What is not authentic for a session is dropped by it in silence, so both may look.
    session.receive(datagram, now);
    renewal?.receive(datagram, now);
    if (!isClientHello(datagram) || session.beganWith(datagram) || renewal?.beganWith(datagram) === true) return;
    this.#receiveAtGate(datagram, from, now);
  }

  /** What came to another process of the port. It is not handed on again. */
  #receiveSteered(datagram: Uint8Array, from: SocketAddress): boolean {
    this.#from = from;
    const found = datagram[0] === TLS12_CID ? this.#sessions.ofConnectionIdIn(datagram) : undefined;
    if (found === undefined) {
      this.#drop("unknown-connection-id", from);
      return false;
    }
    found.receive(datagram, monotonicNow(), from);
    const { address, port } = found.remoteAddress;
    return address === from.address && port === from.port;
  }

  #receiveAtGate(datagram: Uint8Array, from: SocketAddress, now: number): void {
    if (this.#isClosed) return;
    if (this.#gate === undefined) return this.#drop("not-serving", from);
    const { cookiesAboveHandshakes } = this.#limits;
    const demandsCookie = cookiesAboveHandshakes === 0 || this.handshakeCount > cookiesAboveHandshakes;
    const answer = this.#gate.handleDatagram(datagram, addressBytes(from), now, demandsCookie);
    switch (answer.type) {
      case "reply":
        this.#socket.send(answer.bytes, from);
        return;
      case "accept": {
        const replaced = this.#sessions.handshakeAt(from);
        const full = replaced === undefined ? this.#fullness(from, now) : undefined;
        if (full !== undefined) return this.#drop(full, from);
        this.#newSession(answer.association, { address: from.address, port: from.port }).pump();
        return;
      }
      case "drop":
        return this.#drop(answer.reason, from);
    }
  }

  #revive(state: Uint8Array, adopt: (session: DtlsSession) => void): DtlsSession | undefined {
    const kept = decodeSessionState(state);
    if (kept === undefined || this.#gate === undefined) return undefined;
    try {
      const association = this.#gate.restore(kept.association, monotonicNow());
      if (this.#sessions.hasConnectionId(association.connectionId)) return undefined;
      const session = new DtlsSession(association, kept.remoteAddress, this.#surroundings, kept);
      this.#sessions.add(session);
      adopt(session);
      this.#onSession?.(session);
      return session.state === "connected" ? session : undefined;
    } catch (error) {
      this.#options.onFault?.("restoring an association", error);
      return undefined;
    }
  }

  /** Whether there is room for the handshake of a new peer; makes some where a stale session can go. */
  #fullness({ address }: SocketAddress, now: number): EndpointDropReason | undefined {
    const limits = this.#limits;
    if (this.handshakeCount >= limits.maxHandshakes) return "too-many-handshakes";
    const { handshakes, sessions } = this.#sessions.countOf(address);
    if (handshakes >= limits.maxHandshakesPerAddress) return "too-many-handshakes-of-address";
    if (sessions + handshakes >= limits.maxSessionsPerAddress && !this.#evict(now, address)) {
      return "too-many-sessions-of-address";
    }
    const isFull = this.#sessions.size + this.handshakeCount >= limits.maxSessions;
    return isFull && !this.#evict(now) ? "too-many-sessions" : undefined;
  }

  /** Closes a stale session, of a few that are looked at by turns, the one silent longest; `address`: of that one only. */
  #evict(now: number, address?: string): boolean {
    let stalest: DtlsSession | undefined;
    for (let looks = Math.min(EVICTION_LOOKS, this.#sessions.size); looks > 0; looks--) {
      const session = this.#sessions.next();
      if (session === undefined || !session.isStale(now, this.#limits.staleAfterMs)) continue;
      if (address !== undefined && session.handshakeAddress.address !== address) continue;
      if (stalest === undefined || session.lastHeardAt < stalest.lastHeardAt) stalest = session;
    }
    void stalest?.close();
    return stalest !== undefined;
  }

  #startSweeping(): NodeJS.Timeout {
    return setInterval(() => this.#sweep(), Math.min(SWEEP_MS, this.#limits.idleTimeoutMs)).unref();
  }

  #sweep(): void {
    const now = monotonicNow();
    for (const session of this.#sessions) {
      if (now - session.lastHeardAt >= this.#limits.idleTimeoutMs) void session.close();
      else session.tighten(now);
    }
  }

  #newSession(association: Association, remote: SocketAddress): DtlsSession {
    const session = new DtlsSession(association, remote, this.#surroundings);
    // One that was under way from there is given up by the peer; an alert would reach the new one.
    this.#sessions.handshakeAt(remote)?.abandon();
    this.#sessions.begin(session);
    return session;
  }

  #serverOptions(server: ServerOptions): ServerOptions {
    const types = verifiableTypes(this.#options);
    return {
      random: this.#random,
      sharedKeys: new SharedKeys(randomBytes(SECRET_BYTES), performance.timeOrigin),
      ...(types.length === 0 ? {} : { peerCertificateTypes: types }),
      ...server,
      connectionId: this.#freeConnectionIds(server.connectionId ?? (() => this.#newConnectionId())),
      onDrop: this.#onDropBeside(server.onDrop),
      isSaved: this.#options.associations !== undefined,
      sessionCache: this.#options.sessionStore !== undefined,
    };
  }

  async #keepSession(sessionId: Uint8Array, state: Uint8Array, lifetimeSeconds: number): Promise<void> {
    try {
      await this.#options.sessionStore?.put(sessionId, state, lifetimeSeconds);
    } catch (error) {
      this.#options.onFault?.("session store", error);
    }
  }

  #newConnectionId(): Uint8Array {
    const connectionId = this.#random(CONNECTION_ID_BYTES);
    const { steering } = this.#options;
    if (steering !== undefined) connectionId[0] = steering.index;
    return connectionId;
  }

  /** Of those that `make` gives, the first that no session has. */
  #freeConnectionIds(make: (() => Uint8Array) | false): (() => Uint8Array) | false {
    if (make === false) return false;
    return () => {
      for (let tries = 0; tries < CONNECTION_ID_TRIES; tries++) {
        const connectionId = make();
        if (!this.#sessions.hasConnectionId(connectionId)) return connectionId;
      }
      throw new DtlsError("DTLS_BAD_OPTION", "connectionId: gives only those that sessions have");
    };
  }

  /** What sessions drop counts here, and for whoever set their option. */
  #onDropBeside(also: ServerOptions["onDrop"]): NonNullable<ServerOptions["onDrop"]> {
    return (reason) => {
      this.#drop(reason, this.#from);
      also?.(reason);
    };
  }

  #drop(reason: EndpointDropReason, from: SocketAddress): void {
    this.dropped[reason] = (this.dropped[reason] ?? 0) + 1;
    this.#options.onDrop?.(reason, from);
  }

  readonly #surroundings: SessionSurroundings = {
    send: (session, datagram, mayWait) => {
      if (mayWait && this.#options.joinsRecords !== false) {
        this.#joiner.hold(session, datagram, session.maxDatagramBytes);
        return;
      }
      this.#joiner.flush(session);
      this.#socket.send(datagram, session.remoteAddress);
    },
    setTimer: (session, at) => this.#timers.set(session, at),
    sendTo: (address, datagram) => this.#socket.send(datagram, address),
    pskOf: (identity) => this.#options.pskOf?.(identity),
    // Without a verifier no certificate is trusted: fail closed.
    verify: (certificates) => this.#options.verify?.(certificates) ?? NO_VERIFIER,
    verifyRawPublicKey: (rawPublicKey) => this.#options.verifyRawPublicKey?.(rawPublicKey) ?? NO_VERIFIER,
    sessionOf: (sessionId) => this.#options.sessionStore?.get(sessionId),
    onSave: (session) => this.#keeper.save(session),
    keepSession: (sessionId, state, lifetimeSeconds) => void this.#keepSession(sessionId, state, lifetimeSeconds),
    onOpened: (session) => {
      if (this.#sessions.hasConnectionId(session.connectionId)) {
        session.abort("internal_error", "another handshake had the same connection identifier");
        return;
      }
      const earlier = this.#sessions.open(session);
      // With a connection identifier the earlier one is not lost: its peer may have moved, and left the address to another.
      if (earlier !== undefined && earlier.connectionId.length === 0) void earlier.close();
      this.#onSession?.(session);
    },
    onMoved: (session, previous) => this.#options.onAddressChanged?.(session, previous),
    onRefused: (session, candidate) => this.#options.onAddressRefused?.(session, candidate),
    onClosed: (session, error) => {
      const wasOpen = this.#sessions.delete(session);
      this.#keeper.forget(session);
      if (!wasOpen) this.#options.onHandshakeFailed?.(session.remoteAddress, error);
    },
    onFault: (what, error) => this.#options.onFault?.(what, error),
  };
}

/** What there is a verifier for. */
export function verifiableTypes({
  verify,
  verifyRawPublicKey,
}: Pick<EndpointOptions, "verify" | "verifyRawPublicKey">): ("X.509" | "RawPublicKey")[] {
  return [
    ...(verify === undefined ? [] : (["X.509"] as const)),
    ...(verifyRawPublicKey === undefined ? [] : (["RawPublicKey"] as const)),
  ];
}

/** A plaintext handshake record whose message is a ClientHello (RFC 6347 §4.1, §4.2.2). */
function isClientHello(datagram: Uint8Array): boolean {
  return datagram[0] === 22 && datagram[3] === 0 && datagram[4] === 0 && datagram[13] === 1;
}

const NO_VERIFIER: CertificateVerdict = { ok: false, alert: "unknown_ca", reason: "no trust anchor is configured" };
/** The content type of records with a connection identifier. */
const TLS12_CID = 25;
const CONNECTION_ID_BYTES = 6;
const CONNECTION_ID_TRIES = 100;
const SECRET_BYTES = 32;
const SWEEP_MS = 5000;
/** Sessions looked at to find a stale one. */
const EVICTION_LOOKS = 16;
const NOWHERE: SocketAddress = { address: "", port: 0 };
