import type { PeerInfo } from "../association-output.js";
import type { GroupName } from "../crypto/key-exchange.js";
import type { SignatureSchemeName } from "../crypto/signatures.js";
import type { ResumableSession } from "../resumable-session.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "../wire/handshake-header.js";
import type { ServerTerms } from "./client-offer.js";
import type { Negotiated } from "./key-agreement.js";
import { credentialFacts, type PeerCredential } from "./peer-credential.js";

/** What is known in each state, and nothing else. */
export type ClientState =
  | { readonly name: "AwaitServerHello"; readonly helloVerifyRequests: number }
  | {
      readonly name:
        | "AwaitCertificate"
        | "AwaitServerKeyExchange"
        | "AwaitServerKeyExchangeOrDone"
        | "AwaitCertificateRequestOrDone"
        | "AwaitDone"
        | "AwaitVerdict";
      readonly server: ServerFlight;
    }
  | {
      readonly name: "AwaitFinished";
      readonly master: Uint8Array;
      readonly server: ServerFlight;
      readonly identity: Uint8Array | undefined;
      readonly ticket: Uint8Array;
    }
  | { readonly name: "AwaitResumedFinished"; readonly session: ResumableSession; readonly server: ServerFlight }
  | {
      readonly name: "AwaitNewSessionTicket";
      readonly next: StateOf<"AwaitFinished"> | StateOf<"AwaitResumedFinished">;
    }
  | { readonly name: "AwaitResumedVerdict"; readonly resumed: StateOf<"AwaitResumedFinished"> }
  | { readonly name: "Complete" };

export type StateOf<Name extends ClientState["name"]> = Extract<ClientState, { readonly name: Name }>;

/** What the server's flight has told so far. */
export interface ServerFlight extends Negotiated {
  readonly terms: ServerTerms;
  readonly issuesTicket: boolean;
  readonly sessionId: Uint8Array;
  readonly credential?: PeerCredential;
  readonly params?: EcdhParams;
  readonly signatureScheme?: SignatureSchemeName;
  readonly requestedSchemes?: readonly number[];
}

export interface EcdhParams {
  readonly group: GroupName;
  readonly publicKey: Uint8Array;
}

/** What may come next. */
export const EXPECTS: Readonly<Record<ClientState["name"], readonly HandshakeType[] | undefined>> = {
  AwaitServerHello: [HANDSHAKE_TYPES.server_hello, HANDSHAKE_TYPES.hello_verify_request],
  AwaitCertificate: [HANDSHAKE_TYPES.certificate],
  AwaitServerKeyExchange: [HANDSHAKE_TYPES.server_key_exchange],
  AwaitServerKeyExchangeOrDone: [HANDSHAKE_TYPES.server_key_exchange, HANDSHAKE_TYPES.server_hello_done],
  AwaitCertificateRequestOrDone: [HANDSHAKE_TYPES.certificate_request, HANDSHAKE_TYPES.server_hello_done],
  AwaitDone: [HANDSHAKE_TYPES.server_hello_done],
  AwaitVerdict: undefined,
  AwaitNewSessionTicket: [HANDSHAKE_TYPES.new_session_ticket],
  AwaitFinished: [HANDSHAKE_TYPES.finished],
  AwaitResumedFinished: [HANDSHAKE_TYPES.finished],
  AwaitResumedVerdict: undefined,
  Complete: undefined,
};

export function peerInfo(server: ServerFlight, pskIdentity: Uint8Array | undefined): PeerInfo {
  const { credential, signatureScheme, applicationProtocol } = server;
  return {
    suite: server.suite.name,
    extendedMasterSecret: server.extendedMasterSecret,
    hasConnectionId: server.hasConnectionId,
    returnRoutabilityCheck: server.returnRoutabilityCheck,
    isResumed: false,
    ...(pskIdentity === undefined ? {} : { pskIdentity }),
    ...(credential === undefined ? {} : credentialFacts(credential)),
    ...(signatureScheme === undefined ? {} : { signatureScheme }),
    ...(applicationProtocol === undefined ? {} : { applicationProtocol }),
  };
}
