import { type CertificateVerdict, type DropReason, DtlsError, type ServerOptions } from "#dtls/index.js";
import type { AssociationStore } from "./association-store.js";
import type { DtlsSession } from "./dtls-session.js";
import type { RestoredCounts } from "./session-keeper.js";
import type { PskAnswer, SessionAnswer } from "./session-surroundings.js";
import type { SocketAddress } from "./udp-socket.js";
import type { WorkerSteering } from "./worker-steering.js";

export interface EndpointOptions {
  /** Absent: no handshake of a peer is answered. */
  readonly server?: ServerOptions;
  /** The key of a PSK identity; may take its time. */
  readonly pskOf?: (identity: Uint8Array) => PskAnswer | Promise<PskAnswer>;
  /** Whether a peer's chain is to be trusted. Without it every certificate is refused with unknown_ca. */
  readonly verify?: (certificates: readonly Uint8Array[]) => CertificateVerdict | Promise<CertificateVerdict>;
  /** Whether a peer's raw public key (SubjectPublicKeyInfo, DER, RFC 7250) is its own. Without it every one is refused. */
  readonly verifyRawPublicKey?: (rawPublicKey: Uint8Array) => CertificateVerdict | Promise<CertificateVerdict>;
  /** Server: keeps sessions by identifier, for clients without tickets (RFC 5246 §7.3). Default: none, tickets only. */
  readonly sessionStore?: SessionStore;
  /**
   * Server: keeps the living associations, so that a restart goes on with them; it is closed with the endpoint, which then
   * tells the peers nothing. Default: none, `close` ends every session.
   */
  readonly associations?: AssociationStore;
  /** Server: the other processes on the port; closed with the endpoint. Default: none, every datagram is this endpoint's. */
  readonly steering?: WorkerSteering;
  /**
   * Sessions and handshakes in all. Default 100,000, some 300 MB. At the limit the stale session that was silent longest
   * makes way (see `staleAfterMs`); without one, new peers are dropped.
   */
  readonly maxSessions?: number;
  /** The same for one IP address, of a NAT perhaps, and stale sessions of its. Default 10,000. Low: a large site does not get in. */
  readonly maxSessionsPerAddress?: number;
  /** Handshakes under way in all; at the limit new ones are dropped. Default 10,000, some 200 MB at the worst. */
  readonly maxHandshakes?: number;
  /** The same for one IP address. Default 1,000. */
  readonly maxHandshakesPerAddress?: number;
  /**
   * A session silent for so long is stale, as is one whose peer speaks on another: it makes way for new peers, but only when
   * there is no other room. Default 1 h.
   */
  readonly staleAfterMs?: number;
  /** A session silent for so long is closed. Default 7 days. Low: devices that report rarely shake hands each time. */
  readonly idleTimeoutMs?: number;
  /**
   * A cookie is demanded of new peers while more handshakes than this are under way. Default 0: of each, always. More saves
   * a round trip, and lets forged addresses hold that many handshakes, and be sent a server's flight each.
   */
  readonly cookiesAboveHandshakes?: number;
  /** Each record or datagram that is dropped, by reason; also counted in `dropped`. Must be quick: anybody can cause it. */
  readonly onDrop?: (reason: EndpointDropReason, from: SocketAddress) => void;
  /** A session's peer sends from another address now; the session goes on there. */
  readonly onAddressChanged?: (session: DtlsSession, previous: SocketAddress) => void;
  /**
   * Records of a session's peer came from another address, where it did not prove that it receives (RFC 9853): it has moved
   * on, or somebody hands its datagrams on. The session stays where it was.
   */
  readonly onAddressRefused?: (session: DtlsSession, candidate: SocketAddress) => void;
  /**
   * Default true: data that are sent to a peer in one turn of the event loop share a datagram (RFC 6347 §4.1.1), up to the
   * path MTU. False for peers that take no datagrams as long as that.
   */
  readonly joinsRecords?: boolean;
  /** How many associations went on from before the restart, and how many could not. */
  readonly onRestored?: (counts: RestoredCounts) => void;
  readonly onHandshakeFailed?: (remote: SocketAddress, error: DtlsError | undefined) => void;
  /** A callback of yours threw; `what` names it. */
  readonly onFault?: (what: string, error: unknown) => void;
}

/** Where resumable sessions are kept by identifier; several servers may share one. What it holds is secret. */
export interface SessionStore {
  /** Undefined when there is none, or its lifetime is over. */
  get(sessionId: Uint8Array): SessionAnswer | Promise<SessionAnswer>;
  put(sessionId: Uint8Array, state: Uint8Array, lifetimeSeconds: number): void | Promise<void>;
}

/** Why something was dropped: by an association or before any, or for one of ENDPOINT_DROP_REASONS. */
export type EndpointDropReason = DropReason | (typeof ENDPOINT_DROP_REASONS)[number];

/** For want of room, or because no peer is served here. */
export const ENDPOINT_DROP_REASONS = [
  "too-many-sessions",
  "too-many-sessions-of-address",
  "too-many-handshakes",
  "too-many-handshakes-of-address",
  "not-serving",
] as const;

/** All limits of an endpoint, by default. */
export const ENDPOINT_DEFAULTS: EndpointLimits = {
  maxSessions: 100_000,
  maxSessionsPerAddress: 10_000,
  maxHandshakes: 10_000,
  maxHandshakesPerAddress: 1000,
  staleAfterMs: 3_600_000,
  idleTimeoutMs: 604_800_000,
  cookiesAboveHandshakes: 0,
};

export type EndpointLimits = Required<Pick<EndpointOptions, LimitName>>;

/** A limit that is no number would be none. @throws DtlsError DTLS_BAD_OPTION */
export function resolveLimits(options: Partial<EndpointLimits>): EndpointLimits {
  const limits = { ...ENDPOINT_DEFAULTS };
  for (const name of Object.keys(limits) as LimitName[]) {
    const limit = options[name] ?? limits[name];
    const least = name === "idleTimeoutMs" ? 1 : 0;
    if (!(limit >= least)) throw new DtlsError("DTLS_BAD_OPTION", `${name}: ${String(least)} or more`);
    limits[name] = limit;
  }
  return limits;
}

type LimitName =
  | "maxSessions"
  | "maxSessionsPerAddress"
  | "maxHandshakes"
  | "maxHandshakesPerAddress"
  | "staleAfterMs"
  | "idleTimeoutMs"
  | "cookiesAboveHandshakes";
