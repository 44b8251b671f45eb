import { randomBytes } from "node:crypto";
import {
  Association,
  CIPHER_SUITES,
  type CipherSuiteName,
  type CertificateVerdict,
  type ClientOptions,
  type DropReason,
  type DtlsError,
  ServerGate,
  type ServerOptions,
} from "#dtls/index.js";
import { DtlsSession, type PskAnswer, type SessionSurroundings } from "./dtls-session.js";
import { NetError } from "./net-error.js";
import { RecordJoiner } from "./record-joiner.js";
import { addressKey, SessionTable } from "./session-table.js";
import { monotonicNow, resolveHost, type SocketAddress, UdpSocket, type UdpSocketOptions } from "./udp-socket.js";

/**
 * Many DTLS associations over one UDP socket: the endpoint of Node's experimental `node:dtls`. A session with a connection
 * identifier (RFC 9146) is found by it, wherever its peer sends from; one without belongs to the peer's address, and a new
 * handshake from there replaces it when it is complete (RFC 6347 §4.2.8).
 */
export class DtlsEndpoint {
  /** Datagrams dropped before any association, by reason. */
  readonly dropped: Partial<Record<DropReason | "too-many-sessions", number>> = {};

  readonly #socket: UdpSocket;
  readonly #options: EndpointOptions;
  #gate: ServerGate | undefined;
  readonly #sessions = new SessionTable();
  /** Handshakes, of new peers or of peers that have a session still. */
  readonly #handshakes = new Map<string, DtlsSession>();
  readonly #joiner: RecordJoiner<DtlsSession>;
  #onSession: ((session: DtlsSession) => void) | undefined;
  #isClosed = false;

  constructor(socket: UdpSocket, options: EndpointOptions, onSession?: (session: DtlsSession) => void) {
    this.#socket = socket;
    this.#options = options;
    this.#onSession = onSession;
    this.#joiner = new RecordJoiner((parts, session) => socket.sendJoined(parts, session.remoteAddress));
    const { server } = options;
    this.#gate =
      server === undefined ? undefined : new ServerGate({ connectionId: () => this.#newConnectionId(), ...server });
    socket.onDatagram = (datagram, from) => this.#receive(datagram, from);
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
    return this.#handshakes.size;
  }

  /** Begins a handshake toward an address. @throws NetError NET_CLOSED; DtlsError DTLS_BAD_OPTION. */
  connect(remote: SocketAddress, options: ClientOptions): DtlsSession {
    if (this.#isClosed) throw new NetError("NET_CLOSED", "the endpoint is closed");
    const session = this.#newSession(Association.connect(options, monotonicNow()), remote);
    session.pump();
    return session;
  }

  /**
   * New handshakes use these options. Those under way are ended, since they began with others; sessions go on.
   *
   * @throws DtlsError DTLS_BAD_OPTION, changing nothing.
   */
  replaceServer(server: ServerOptions): void {
    this.#gate = new ServerGate({ connectionId: () => this.#newConnectionId(), ...server });
    for (const handshake of this.#handshakes.values()) void handshake.close();
  }

  /** Closes every session in order, then the socket. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#onSession = undefined;
    await Promise.all([...this.#sessions, ...this.#handshakes.values()].map((session) => session.close()));
    await this.#socket.close();
  }

  #receive(datagram: Uint8Array, from: SocketAddress): void {
    const now = monotonicNow();
    const hasConnectionId = datagram[0] === TLS12_CID;
    const found = hasConnectionId ? this.#sessions.ofConnectionIdIn(datagram) : undefined;
    if (found !== undefined) {
      found.receive(datagram, now, { from });
      return;
    }
    const key = addressKey(from);
    const session = hasConnectionId ? undefined : this.#sessions.ofAddress(key);
    const handshake = this.#handshakes.get(key);
    if (hasConnectionId && handshake === undefined) return this.#drop("unknown-connection-id");
    // What is not authentic for a session is dropped by it in silence, so both may look.
    session?.receive(datagram, now);
    handshake?.receive(datagram, now);
    const isKnown = session !== undefined || handshake !== undefined;
    if (isKnown && !isClientHello(datagram)) return;
    if (session?.beganWith(datagram) === true || handshake?.beganWith(datagram) === true) return;
    this.#receiveAtGate(datagram, from, key, now);
  }

  #receiveAtGate(datagram: Uint8Array, from: SocketAddress, key: string, now: number): void {
    if (this.#gate === undefined || this.#isClosed) return;
    const answer = this.#gate.handleDatagram(datagram, TEXT_ENCODER.encode(key), now);
    switch (answer.type) {
      case "reply":
        this.#socket.send(answer.bytes, from);
        return;
      case "accept": {
        const replaced = this.#handshakes.get(key);
        if (
          replaced === undefined &&
          this.#handshakes.size >= (this.#options.maxHandshakes ?? DEFAULT_MAX_HANDSHAKES)
        ) {
          return this.#drop("too-many-sessions");
        }
        if (replaced === undefined && this.#sessions.size >= (this.#options.maxSessions ?? DEFAULT_MAX_SESSIONS)) {
          return this.#drop("too-many-sessions");
        }
        this.#newSession(answer.association, { address: from.address, port: from.port }).pump();
        return;
      }
      case "drop":
        return this.#drop(answer.reason);
    }
  }

  #newSession(association: Association, remote: SocketAddress): DtlsSession {
    const session = new DtlsSession(association, remote, this.#surroundings);
    this.#handshakes.set(addressKey(remote), session);
    return session;
  }

  #newConnectionId(): Uint8Array {
    for (;;) {
      const connectionId = randomBytes(CONNECTION_ID_BYTES);
      if (!this.#sessions.hasConnectionId(connectionId)) return connectionId;
    }
  }

  #drop(reason: DropReason | "too-many-sessions"): void {
    this.dropped[reason] = (this.dropped[reason] ?? 0) + 1;
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
    pskOf: (identity) => this.#options.pskOf?.(identity),
    // Without a verifier no certificate is trusted: fail closed.
    verify: (certificates) => this.#options.verify?.(certificates) ?? NO_VERIFIER,
    onOpened: (session) => {
      const key = addressKey(session.handshakeAddress);
      if (this.#handshakes.get(key) === session) this.#handshakes.delete(key);
      const earlier = this.#sessions.add(session);
      // With a connection identifier the earlier one is not lost: its peer may have moved, and left the address to another.
      if (earlier !== undefined && earlier.connectionId.length === 0) void earlier.close();
      this.#onSession?.(session);
    },
    onMoved: (session, previous) => this.#options.onAddressChanged?.(session, previous),
    onClosed: (session, error) => {
      const key = addressKey(session.handshakeAddress);
      this.#sessions.delete(session);
      if (this.#handshakes.get(key) === session) {
        this.#handshakes.delete(key);
        this.#options.onHandshakeFailed?.(session.remoteAddress, error);
      }
    },
    onFault: (what, error) => this.#options.onFault?.(what, error),
  };
}

export interface EndpointOptions {
  /** Absent: no handshake of a peer is answered. */
  readonly server?: ServerOptions;
  /** The key of a PSK identity; may take its time. */
  readonly pskOf?: (identity: Uint8Array) => PskAnswer | Promise<PskAnswer>;
  /** Whether a peer's chain is to be trusted. Without it every certificate is refused with unknown_ca. */
  readonly verify?: (certificates: readonly Uint8Array[]) => CertificateVerdict | Promise<CertificateVerdict>;
  /** Default 100,000 sessions; at the limit new peers are dropped in silence. */
  readonly maxSessions?: number;
  /** Default 10,000 handshakes under way; each has proved its address by a cookie. */
  readonly maxHandshakes?: number;
  /** A session's peer sends from another address now; the session goes on there. */
  readonly onAddressChanged?: (session: DtlsSession, previous: SocketAddress) => void;
  /**
   * Default true: data that are sent to a peer in one turn of the event loop share a datagram (RFC 6347 §4.1.1), up to the
   * path MTU. False for peers that take no datagrams as long as that.
   */
  readonly joinsRecords?: boolean;
  readonly onHandshakeFailed?: (remote: SocketAddress, error: DtlsError | undefined) => void;
  /** A callback of yours threw; `what` names it. */
  readonly onFault?: (what: string, error: unknown) => void;
}

/** Listens for DTLS. `onSession` is called when a handshake is complete. @throws NetError, DtlsError DTLS_BAD_OPTION. */
export async function listen(
  onSession: (session: DtlsSession) => void,
  options: EndpointOptions & { readonly server: ServerOptions } & UdpSocketOptions,
): Promise<DtlsEndpoint> {
  return new DtlsEndpoint(await UdpSocket.bind(options), options, onSession);
}

/**
 * Opens a session on a socket of its own, which is closed with it. Wait for `opened`.
 *
 * @throws NetError NET_NAME_NOT_FOUND and those of binding; DtlsError DTLS_BAD_OPTION.
 */
export async function connect(
  remote: { readonly host: string; readonly port: number },
  options: ClientOptions & Pick<EndpointOptions, "verify" | "joinsRecords" | "onFault">,
): Promise<DtlsSession> {
  const address = await resolveHost(remote.host);
  const socket = await UdpSocket.bind({ host: address.includes(":") ? "::" : "0.0.0.0" });
  const endpoint = new DtlsEndpoint(socket, options);
  try {
    const session = endpoint.connect({ address, port: remote.port }, withUsableSuites(options));
    void session.closed.then(() => socket.close());
    return session;
  } catch (error) {
    await socket.close();
    throw error;
  }
}

/** Without a verifier every certificate is refused: then only the suites that need none are worth offering. */
function withUsableSuites(options: ClientOptions & Pick<EndpointOptions, "verify">): ClientOptions {
  if (options.psk === undefined || options.verify !== undefined || options.cipherSuites !== undefined) return options;
  return { ...options, cipherSuites: PSK_SUITES };
}

/** A plaintext handshake record whose message is a ClientHello (RFC 6347 §4.1, §4.2.2). */
function isClientHello(datagram: Uint8Array): boolean {
  return datagram[0] === 22 && datagram[3] === 0 && datagram[4] === 0 && datagram[13] === 1;
}

const PSK_SUITES = (Object.keys(CIPHER_SUITES) as CipherSuiteName[]).filter((suite) => suite.includes("PSK"));
const NO_VERIFIER: CertificateVerdict = { ok: false, alert: "unknown_ca", reason: "no trust anchor is configured" };
/** The content type of records with a connection identifier. */
const TLS12_CID = 25;
const CONNECTION_ID_BYTES = 6;
const DEFAULT_MAX_SESSIONS = 100_000;
const DEFAULT_MAX_HANDSHAKES = 10_000;
const TEXT_ENCODER = new TextEncoder();
