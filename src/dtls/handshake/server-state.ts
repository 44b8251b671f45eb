import type { PeerInfo } from "../association-output.js";
import type { KeyShare } from "../crypto/key-exchange.js";
import type { SignatureSchemeName } from "../crypto/signatures.js";
import type { DtlsErrorCode } from "../errors.js";
import type { ResumableSession } from "../resumable-session.js";
import type { CertificateType } from "../wire/certificate-type.js";
import type { ClientHello } from "../wire/client-hello.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "../wire/handshake-header.js";
import type { Negotiated } from "./key-agreement.js";
import type { PeerCredential } from "./peer-credential.js";
import type { SessionFacts } from "./server-sessions.js";
import type { ClientTerms } from "./server-terms.js";

/** What is known in each state, and nothing else. */
export type ServerState =
  | { readonly name: "AwaitClientHello" }
  | { readonly name: "AwaitSession"; readonly request: SessionRequest }
  | {
      readonly name: "AwaitSessionPsk" | "AwaitSessionVerdict";
      readonly request: SessionRequest;
      readonly session: ResumableSession;
    }
  | { readonly name: "AwaitResumedFinished"; readonly session: ResumableSession; readonly hellos: Hellos }
  | { readonly name: "AwaitCertificate"; readonly hellos: Hellos }
  | {
      readonly name: "AwaitClientKeyExchange";
      readonly hellos: Hellos;
      readonly credential: PeerCredential | undefined;
    }
  | {
      readonly name: "AwaitPsk";
      readonly hellos: Hellos;
      readonly identity: Uint8Array;
      readonly ecdhSecret: Uint8Array | undefined;
    }
  | {
      readonly name: "AwaitCertificateVerify";
      readonly hellos: Hellos;
      readonly master: Uint8Array;
      readonly credential: PeerCredential;
    }
  | {
      readonly name: "AwaitVerdict";
      readonly hellos: Hellos;
      readonly master: Uint8Array;
      readonly credential: PeerCredential;
      readonly signatureScheme: SignatureSchemeName;
    }
  | {
      readonly name: "AwaitFinished";
      readonly master: Uint8Array;
      readonly hellos: Hellos;
      readonly peer: PeerInfo;
      readonly pskTag: Uint8Array | undefined;
      /** What it means when Finished does not verify. */
      readonly fault: DtlsErrorCode;
      /** An unknown identity: no Finished will do. */
      readonly isRefused: boolean;
    }
  | { readonly name: "Complete" };

export type StateOf<Name extends ServerState["name"]> = Extract<ServerState, { readonly name: Name }>;

/** What both hellos settled, and what the server has to remember of them. */
export interface Hellos extends Negotiated {
  readonly share: KeyShare | undefined;
  readonly serverName: string | undefined;
  readonly clientCertificateType: CertificateType;
  readonly issuesTicket: boolean;
  /** Of the session to be made; empty for none. */
  readonly sessionId: Uint8Array;
}

/** A ClientHello that may resume a session. */
export interface SessionRequest {
  readonly hello: ClientHello;
  readonly terms: ClientTerms;
}

/** What may come next. */
export const EXPECTS: Readonly<Record<ServerState["name"], readonly HandshakeType[] | undefined>> = {
  AwaitClientHello: [HANDSHAKE_TYPES.client_hello],
  AwaitSession: undefined,
  AwaitSessionPsk: undefined,
  AwaitSessionVerdict: undefined,
  AwaitResumedFinished: [HANDSHAKE_TYPES.finished],
  AwaitCertificate: [HANDSHAKE_TYPES.certificate],
  AwaitClientKeyExchange: [HANDSHAKE_TYPES.client_key_exchange],
  AwaitPsk: undefined,
  AwaitCertificateVerify: [HANDSHAKE_TYPES.certificate_verify],
  AwaitVerdict: undefined,
  AwaitFinished: [HANDSHAKE_TYPES.finished],
  Complete: undefined,
};

export function sessionFacts({ master, hellos, peer, pskTag: tag }: StateOf<"AwaitFinished">): SessionFacts {
  return { masterSecret: master, serverName: hellos.serverName, peer, pskTag: tag };
}

/** Put together property by property: where objects are spread, V8 makes a hidden class for each handshake. */
export function peerInfo(hellos: Hellos, pskIdentity?: Uint8Array): PeerInfo {
  const { suite, extendedMasterSecret, hasConnectionId, returnRoutabilityCheck, serverName, applicationProtocol } =
    hellos;
  const info: { -readonly [Key in keyof PeerInfo]: PeerInfo[Key] } = {
    suite: suite.name,
    extendedMasterSecret,
    hasConnectionId,
    returnRoutabilityCheck,
    isResumed: false,
  };
  if (serverName !== undefined) info.serverName = serverName;
  if (applicationProtocol !== undefined) info.applicationProtocol = applicationProtocol;
  if (pskIdentity !== undefined) info.pskIdentity = pskIdentity;
  return info;
}
