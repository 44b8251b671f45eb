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
import { BINDING_OPTION, CONNECTION_LEVEL, type ConnectionLevel, type InterfaceName } from "#dpe/index.js";
import { type Decision, decide, type DigestFault, type InterfacePolicy, type Offer } from "./decision.js";
import { decodeAuthorization, type DigestScope, encodeInfo, type ScopedChallenge } from "./digest-options.js";
import { digestUri } from "./digest-uri.js";
import { SecurityError } from "./errors.js";
import { problem, refusal } from "./refusal.js";
import type { Subscriber, Subscribers } from "./subscribers.js";

/**
 * The server's security at one interface: judges each message of a request, block by block, before anything else looks at
 * it. Keeps no state for whoever has not authenticated.
 */
export class ServerGuard {
  readonly #interface: InterfaceName;
  readonly #policy: GuardPolicy;
  readonly #subscribers: Subscribers;
  readonly #nonces: NonceKeeper;
  readonly #dummyKey: Uint8Array;

  constructor(
    interfaceName: InterfaceName,
    policy: GuardPolicy,
    subscribers: Subscribers,
    random: (size: number) => Uint8Array,
  ) {
    this.#interface = interfaceName;
    this.#policy = policy;
    this.#subscribers = subscribers;
    this.#nonces = new NonceKeeper({ key: random(KEY_BYTES), random });
    this.#dummyKey = random(KEY_BYTES);
  }

  judge(message: RequestMessage, association: AssociationFacts, now: number): Judgement {
    const { digest } = this.#policy;
    let verified: Verified | undefined;
    try {
      verified = this.#verifyDigest(message, association, now);
    } catch (error) {
      if (!(error instanceof SecurityError)) throw error;
      return {
        type: "refuse",
        rule: "the option is malformed",
        error: "invalid-credentials",
        response: problem(CODE.BadRequest, error.message),
      };
    }
    const requested = message.options.uint(BINDING_OPTION.SecurityRequest);
    const digestOffer = verified?.offer ?? association.digestSubscriber;
    const offer: Offer = {
      connection: association.connection,
      ...(requested === undefined ? {} : { requestedConnection: requested >= CONNECTION_LEVEL.dtls ? "dtls" : "none" }),
      ...(association.psk === undefined ? {} : { psk: association.psk }),
      ...(association.certificate === undefined ? {} : { certificate: association.certificate }),
      ...(digestOffer === undefined ? {} : { digest: digestOffer }),
    };
    const decision = decide(this.#interface, this.#policy, offer);
    if (decision.type === "accept") {
      const binds = digest?.scope === "association" && association.connection === "dtls" && decision.mode === "digest";
      if (binds && decision.subscriber !== undefined) association.digestSubscriber = decision.subscriber;
      const info = verified?.info;
      return {
        ...decision,
        ...(info === undefined ? {} : { finish: (response) => withInfo(response, message, info) }),
      };
    }
    return { ...decision, response: this.#refusal(decision, association, now) };
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

/** What is known of the association, or of the remote address on plain UDP, that a message came on. */
export interface AssociationFacts {
  readonly connection: ConnectionLevel;
  /** Bytes that tell this association from all others; nonces are bound to them. Absent on plain UDP. */
  readonly binding?: Uint8Array;
  readonly psk?: Subscriber | "unknown";
  readonly certificate?: Subscriber | "unknown";
  /** Set by the guard: the subscriber that Digest bound to this association (scope association). */
  digestSubscriber?: Subscriber;
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
