import type {
  AssociationCounters,
  AssociationOutput,
  AssociationState,
  CertificateVerdict,
  PeerInfo,
} from "./association-output.js";
import type { ClientOptions } from "./options.js";
import type { AlertDescription } from "./wire/alert.js";

export declare class Association {
  private constructor();
  static connect(options: ClientOptions, now: number): Association;
  get state(): AssociationState;
  get peer(): PeerInfo | undefined;
  get counters(): AssociationCounters;
  get maxDataBytes(): number;
  poll(): AssociationOutput | undefined;
  nextTimeout(): number | undefined;
  handleDatagram(datagram: Uint8Array, now: number): void;
  handleTimeout(now: number): void;
  send(data: Uint8Array): void;
  close(): void;
  abort(alert: AlertDescription, reason: string): void;
  answerPsk(identity: Uint8Array, key: Uint8Array | undefined, now: number): void;
  answerPeerCertificate(verdict: CertificateVerdict, now: number): void;
  /** Whether the datagram begins with the very ClientHello (by its random) that this association was made for. */
  beganWith(datagram: Uint8Array): boolean;
}
