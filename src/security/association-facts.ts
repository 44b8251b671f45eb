import type { ConnectionLevel } from "#dpe/index.js";
import type { Subscriber } from "./subscribers.js";

/** What is known of the association, or of the remote address on plain UDP, that a message came on. */
export interface AssociationFacts {
  readonly connection: ConnectionLevel;
  /** The peer's address, canonical, without its port. */
  readonly address: string;
  /** Address and port, for the log. */
  readonly peer?: string;
  /** Bytes that tell this association from all others; nonces are bound to them. Absent on plain UDP. */
  readonly binding?: Uint8Array;
  /** What the handshake proved of the peer; absent without DTLS. */
  readonly identity?: LowerLayerIdentity;
  readonly psk?: Subscriber | "unknown";
  readonly certificate?: Subscriber | "unknown";
  readonly rawPublicKey?: Subscriber | "unknown";
  /** Set by the guard: the subscriber that Digest bound to this association (scope association). */
  digestSubscriber?: Subscriber;
  /** When that ends with its credential, ms since 1970. */
  digestExpiresAt?: number;
  /** Set by the guard: whom the network had at this address, where that alone accepted the last message. */
  externalSubscriber?: Subscriber;
  /** For the guard: what was told to the audit trail of this association. */
  told?: string;
  /** The same for DPE-2. */
  toldDpe2?: string;
}

/** The peer's identity at the lower layer, each part proved by the DTLS handshake. */
export interface LowerLayerIdentity {
  /** The PSK identity, as text where it is UTF-8. */
  readonly pskIdentity?: string;
  /** subjectAltNames of the verified certificate, and its common name. */
  readonly certificateNames?: readonly string[];
  /** SHA-256 of the peer's SubjectPublicKeyInfo, lowercase hex: of its certificate or its raw public key. */
  readonly keyFingerprint?: string;
}
