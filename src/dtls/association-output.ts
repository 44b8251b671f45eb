import type { CipherSuiteName } from "./crypto/suites.js";
import type { SignatureSchemeName } from "./crypto/signatures.js";
import type { DtlsError } from "./errors.js";
import type { AlertDescription, AlertLevel } from "./wire/alert.js";

/** What an association asks of its surroundings; poll until there is none. */
export type AssociationOutput =
  /**
   * To be sent to the peer's address; with `to`, to the candidate, or to where the datagram that was handled last came
   * from. The receiver owns the bytes.
   */
  | { readonly type: "datagram"; readonly bytes: Uint8Array; readonly to?: "candidate" | "source" }
  /** The handshake is complete; comes before any `data`. */
  | { readonly type: "connected"; readonly peer: PeerInfo }
  /** One record of application data. The receiver owns the bytes. */
  | { readonly type: "data"; readonly bytes: Uint8Array }
  /** Server: which key does this identity have? Answer with `answerPsk`. */
  | { readonly type: "need-psk"; readonly identity: Uint8Array; readonly hint?: Uint8Array }
  /** Is this chain (DER, leaf first) to be trusted? Answer with `answerPeerCertificate`. */
  | { readonly type: "need-peer-certificate-verification"; readonly certificates: readonly Uint8Array[] }
  /** Is this raw public key (SubjectPublicKeyInfo, DER, RFC 7250) the peer's? Answer with `answerPeerCertificate`. */
  | { readonly type: "need-raw-public-key-verification"; readonly rawPublicKey: Uint8Array }
  /** Server: the state of the session of this identifier? Answer with `answerSession`. */
  | { readonly type: "need-session"; readonly sessionId: Uint8Array }
  /**
   * The handshake made a session that can be resumed. Client: to be kept with the server's name, as a secret, for the
   * option `session`. Server: to be kept by its identifier, as a secret, for `lifetimeSeconds`.
   */
  | {
      readonly type: "session";
      readonly sessionId: Uint8Array;
      readonly state: Uint8Array;
      readonly lifetimeSeconds: number;
    }
  /**
   * With the option `isSaved`: `save()` is to be kept before any later output is carried out. If it cannot be, carry out
   * no further `datagram` or `data`, and abort.
   */
  | { readonly type: "save" }
  /** The peer's address is from now on that which the datagram handled last came from (RFC 9146 §6). */
  | { readonly type: "peer-moved" }
  /** The same address may become the peer's: it is the candidate, of which there is one at a time (RFC 9853). */
  | { readonly type: "path-candidate" }
  /** The peer's address is from now on the candidate. */
  | { readonly type: "path-validated" }
  /** The candidate is none any more; the peer's address stays. */
  | { readonly type: "path-refused" }
  /** The last output. `error` is absent when either side closed in order. */
  | { readonly type: "closed"; readonly error?: DtlsError; readonly alert?: ClosingAlert };

/** The alert that ended the association. */
export interface ClosingAlert {
  readonly sent: boolean;
  readonly received: boolean;
  readonly level: AlertLevel;
  readonly description: AlertDescription | number;
}

/** What the handshake established about the peer. */
export interface PeerInfo {
  readonly suite: CipherSuiteName;
  /** RFC 7627. */
  readonly extendedMasterSecret: boolean;
  /** Server: the identity that the client proved. Client: the one it used. */
  readonly pskIdentity?: Uint8Array;
  /** The verified chain of the peer: DER, leaf first. */
  readonly certificates?: readonly Uint8Array[];
  /** After a restart, SHA-256 of the leaf certificate, in the place of the chain. */
  readonly certificateHash?: Uint8Array;
  /** The verified raw public key of the peer (SubjectPublicKeyInfo, DER), in the place of certificates. */
  readonly rawPublicKey?: Uint8Array;
  /** The scheme by which the peer proved that it holds the leaf's key. */
  readonly signatureScheme?: SignatureSchemeName;
  /** Server: the host name that the client asked for (RFC 6066 §3). */
  readonly serverName?: string;
  /** RFC 9146: whether the peer finds us by our connection identifier, from wherever it sends. */
  readonly hasConnectionId: boolean;
  /** RFC 9853: whether both sides check new addresses. */
  readonly returnRoutabilityCheck: boolean;
  /** Whether an earlier session was resumed; what is known of the peer is what that one's handshake proved. */
  readonly isResumed: boolean;
  /** What both sides agreed to speak (RFC 7301). */
  readonly applicationProtocol?: string;
}

/** Where a datagram came from: the peer's address, the candidate for it, or any other. */
export type DatagramSource = "peer" | "candidate" | "elsewhere";

export type AssociationState = "handshaking" | "connected" | "closing" | "closed";

/** The answer to `need-peer-certificate-verification`. */
export type CertificateVerdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly alert: CertificateAlert; readonly reason: string };

export type CertificateAlert = Extract<
  AlertDescription,
  | "bad_certificate"
  | "unsupported_certificate"
  | "certificate_revoked"
  | "certificate_expired"
  | "certificate_unknown"
  | "unknown_ca"
  | "access_denied"
>;

/** Totals since the association began. */
export interface AssociationCounters {
  readonly recordsIn: number;
  readonly recordsOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Flights sent again, by the timer or because the peer repeated its own. */
  readonly retransmissions: number;
  /** Records (or fragments of handshake messages) dropped without an effect, by reason; absent is zero. */
  readonly dropped: Readonly<Partial<Record<DropReason, number>>>;
}

/** Why input was dropped in silence: every reason there is. */
export const DROP_REASONS = [
  "truncated-record",
  "unknown-content-type",
  "wrong-version",
  "record-too-long",
  "record-too-short",
  "unexpected-epoch",
  "replayed",
  "bad-mac",
  "mac-failure-limit",
  "unknown-connection-id",
  "connection-id-missing",
  "malformed-inner-plaintext",
  "plaintext-not-allowed",
  "early-record-limit",
  "unexpected-change-cipher-spec",
  "malformed-alert",
  "ignored-alert",
  "malformed-fragment",
  "unexpected-path-message",
  "path-hold-limit",
  "duplicate-message",
  "reassembly-limit",
  "unexpected-message",
  "closed",
  "not-a-client-hello",
  "malformed-client-hello",
  "fragmented-client-hello",
] as const;

export type DropReason = (typeof DROP_REASONS)[number];
