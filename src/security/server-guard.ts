import { CODE, methodName, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import {
  type AuthenticationInfo,
  createChallenge,
  type DigestAlgorithm,
  type DigestPolicy,
  type DigestQop,
  type DigestResponse,
  hashOf,
  NonceKeeper,
  verifyAuthorization,
} from "#digest/index.js";
import { BINDING_OPTION, CONNECTION_LEVEL, type InterfaceName } from "#dpe/index.js";
import type { AssociationFacts } from "./association-facts.js";
import { type Decision, decide, type DigestFault, type InterfacePolicy, type Offer } from "./decision.js";
import { decodeAuthorization, type DigestScope, encodeInfo, type ScopedChallenge } from "./digest-options.js";
import { digestUri } from "./digest-uri.js";
import { SecurityError } from "./errors.js";
import { type ExternalIdentities, NO_EXTERNAL_IDENTITIES } from "./external-identities.js";
import { problem, refusal } from "./refusal.js";
import { decodeSubscriberIdentity } from "./subscriber-identity.js";
import type { Subscriber, Subscribers } from "./subscribers.js";

/**
 * The server's security at one interface: judges each message of a request, block by block, before anything else looks at
 * it. Keeps no state for whoever has not authenticated.
 */
export class ServerGuard {
  readonly #interface: InterfaceName;
  readonly #policy: GuardPolicy;
  readonly #subscribers: Subscribers;
  readonly #external: ExternalIdentities;
  readonly #nonces: NonceKeeper;
  readonly #dummyKey: Uint8Array;

  constructor(interfaceName: InterfaceName, policy: GuardPolicy, surroundings: GuardSurroundings) {
    const { subscribers, external, random } = surroundings;
    this.#interface = interfaceName;
    this.#policy = policy;
    this.#subscribers = subscribers;
    this.#external = external ?? NO_EXTERNAL_IDENTITIES;
    this.#nonces = new NonceKeeper({ key: random(KEY_BYTES), random });
    this.#dummyKey = random(KEY_BYTES);
  }

  judge(message: RequestMessage, association: AssociationFacts, now: number): Judgement {
    const { digest } = this.#policy;
    let verified: Verified | undefined;
    let offer: Offer;
    try {
      verified = this.#verifyDigest(message, association, now);
      offer = this.#offerOf(message, association, verified);
    } catch (error) {
      if (!(error instanceof SecurityError)) throw error;
      return {
        type: "refuse",
        rule: "the option is malformed",
        error: "invalid-credentials",
        response: problem(CODE.BadRequest, error.message),
      };
    }
    const decision = decide(this.#interface, this.#policy, offer);
    if (decision.type === "accept") {
      const binds =
        digest?.scope === "association" &&
        association.connection === "dtls" &&
        decision.mode === "digest" &&
        !this.#external.mayInsert(association);
      if (binds && decision.subscriber !== undefined) association.digestSubscriber = decision.subscriber;
      const info = verified?.info;
      return {
        ...decision,
        ...(info === undefined ? {} : { finish: (response) => withInfo(response, message, info) }),
      };
    }
    return { ...decision, response: this.#refusal(decision, association, now) };
  }

  #offerOf(message: RequestMessage, association: AssociationFacts, verified: Verified | undefined): Offer {
    const { connection, address, certificate, rawPublicKey, psk, digestSubscriber } = association;
    const requested = message.options.uint(BINDING_OPTION.SecurityRequest);
    const inserted = message.options.get(BINDING_OPTION.SubscriberIdentity);
    const isProxy = this.#external.mayInsert(association);
    const identity =
      inserted !== undefined
        ? decodeSubscriberIdentity(inserted)
        : isProxy
          ? undefined
          : this.#external.ofAddress(address);
    const external = identity === undefined ? undefined : (this.#subscribers.ofIdentity(identity) ?? "unknown");
    const digest = verified?.offer ?? (isProxy ? undefined : digestSubscriber);
    return {
      connection,
      ...(requested === undefined ? {} : { requestedConnection: requested >= CONNECTION_LEVEL.dtls ? "dtls" : "none" }),
      // What a proxy proves is the proxy's, not the client's.
      ...(psk === undefined || isProxy ? {} : { psk }),
      ...(certificate === undefined || isProxy ? {} : { certificate }),
      ...(rawPublicKey === undefined || isProxy ? {} : { rawPublicKey }),
      ...(external === undefined ? {} : { external: inserted !== undefined && !isProxy ? "untrusted" : external }),
      ...(digest === undefined ? {} : { digest }),
    };
  }

  #verifyDigest(message: RequestMessage, association: AssociationFacts, now: number): Verified | undefined {
    const value = message.options.get(BINDING_OPTION.DigestAuthorization);
    const { digest } = this.#policy;
    if (value === undefined || !this.#policy.clientAuthentication.includes("digest") || digest === undefined)
      return undefined;
    const authorization = decodeAuthorization(value);
    const { realm, algorithm, username } = authorization;
    const subscriber = this.#subscribers.ofUsername(username, realm, hashOf(algorithm));
    const verdict = verifyAuthorization(
      authorization,
      { method: methodName(message.code) ?? "", uri: digestUri(message.options), body: message.payload },
      {
        policy: this.#digestPolicy(digest),
        keeper: this.#nonces,
        credential: subscriber?.digest,
        dummyKey: this.#dummyKey,
        association: association.binding,
      },
      now,
    );
    if (!verdict.ok) return { offer: verdict.error };
    return subscriber === undefined
      ? { offer: "invalid-credentials" }
      : { offer: subscriber, info: verdict.authenticationInfo };
  }

  #refusal(
    decision: Extract<Decision, { type: "refuse" }>,
    association: AssociationFacts,
    now: number,
  ): ResponseMessage {
    const { digest } = this.#policy;
    if (decision.error === "security-required") {
      return refusal(decision.error, {
        securityRequired: { port: this.#policy.securePort, interfaceName: this.#interface },
      });
    }
    const isChallenged =
      CHALLENGED.has(decision.error) && digest !== undefined && this.#policy.clientAuthentication.includes("digest");
    if (!isChallenged) return refusal(decision.error);
    const stale = decision.error === "stale-nonce";
    const base = createChallenge(this.#digestPolicy(digest), this.#nonces, now, {
      stale,
      association: association.binding,
    });
    const scope: DigestScope = association.connection === "dtls" ? digest.scope : "request";
    const challenge: ScopedChallenge = { ...base, scope };
    return refusal(decision.error, { challenge });
  }

  #digestPolicy(digest: GuardDigest): DigestPolicy {
    const { realm, algorithms, qops } = digest;
    return { realm, algorithms, qops, userhash: false };
  }
}

/** An interface's policy with what Digest needs. */
export interface GuardPolicy extends InterfacePolicy {
  readonly digest?: GuardDigest;
  /** The coaps port, told to clients that come without DTLS. */
  readonly securePort?: number;
}

export interface GuardDigest {
  readonly realm: string;
  readonly algorithms: readonly DigestAlgorithm[];
  readonly qops: readonly DigestQop[];
  readonly scope: DigestScope;
}

/** What a guard asks. */
export interface GuardSurroundings {
  readonly subscribers: Subscribers;
  /** Default: nobody is known from outside. */
  readonly external?: ExternalIdentities | undefined;
  /** A cryptographic source. */
  readonly random: (size: number) => Uint8Array;
}

export type Judgement =
  | (Extract<Decision, { type: "accept" }> & {
      /** Adds what proves the server to the client (Digest-Info) to the response. */
      readonly finish?: (response: ResponseMessage) => ResponseMessage;
    })
  | (Extract<Decision, { type: "refuse" }> & { readonly response: ResponseMessage });

interface Verified {
  readonly offer: Subscriber | DigestFault;
  readonly info?: (response: DigestResponse) => AuthenticationInfo;
}

function withInfo(
  response: ResponseMessage,
  request: RequestMessage,
  info: (response: DigestResponse) => AuthenticationInfo,
): ResponseMessage {
  const value = encodeInfo(info({ uri: digestUri(request.options), body: response.payload }));
  return { ...response, options: response.options.with(BINDING_OPTION.DigestInfo, value) };
}

const CHALLENGED: ReadonlySet<string> = new Set([
  "credentials-required",
  "invalid-credentials",
  "stale-nonce",
  "replayed",
  "unsupported-method",
]);
const KEY_BYTES = 32;
