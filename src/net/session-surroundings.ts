import type { CertificateVerdict, DtlsError } from "#dtls/index.js";
import type { DtlsSession } from "./dtls-session.js";
import type { SocketAddress } from "./udp-socket.js";

/** What a session needs of its endpoint. */
export interface SessionSurroundings {
  /** `mayWait`: until the end of this turn of the event loop, to share its datagram. */
  send(session: DtlsSession, datagram: Uint8Array, mayWait: boolean): void;
  /** To another address than the session's, at once. */
  sendTo(address: SocketAddress, datagram: Uint8Array): void;
  /** When the session is to be told of the time; undefined: not at all. */
  setTimer(session: DtlsSession, at: number | undefined): void;
  pskOf(identity: Uint8Array): PskAnswer | Promise<PskAnswer>;
  verify(certificates: readonly Uint8Array[]): CertificateVerdict | Promise<CertificateVerdict>;
  verifyRawPublicKey(rawPublicKey: Uint8Array): CertificateVerdict | Promise<CertificateVerdict>;
  sessionOf(sessionId: Uint8Array): SessionAnswer | Promise<SessionAnswer>;
  /** Keeps the session's state; false when that failed. Without a store: true. */
  onSave(session: DtlsSession): boolean;
  /** Server: keeps a session that can be resumed by its identifier. */
  keepSession(sessionId: Uint8Array, state: Uint8Array, lifetimeSeconds: number): void;
  onOpened(session: DtlsSession): void;
  /** The peer has another address now. */
  onMoved(session: DtlsSession, previous: SocketAddress): void;
  /** The peer sent from there, or somebody else its records, and did not prove that it receives there. */
  onRefused(session: DtlsSession, candidate: SocketAddress): void;
  onClosed(session: DtlsSession, error: DtlsError | undefined): void;
  /** A callback of the application threw. */
  onFault(what: string, error: unknown): void;
}

/** The key of an identity; undefined when there is none. */
export type SessionAnswer = Uint8Array | undefined;
export type PskAnswer = Uint8Array | undefined;
