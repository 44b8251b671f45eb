import { createSecretKey, type KeyObject } from "node:crypto";
import type { ResponseMessage } from "#coap/index.js";
import { type Challenge, ExchangeNonce, hashOf, verifyProof } from "#digest/index.js";
import { BINDING_OPTION, type InterfaceName } from "#dpe/index.js";
import type { AssociationFacts } from "./association-facts.js";
import type { ClientOffer } from "./decide-on-client.js";
import { type ClientDecision, decide } from "./decision.js";
import { decodeAuthorization, encodeChallenge } from "./digest-options.js";
import { SecurityError } from "./errors.js";
import { digestPolicy } from "./server-digest.js";
import type { GuardPolicy } from "./server-guard.js";
import type { Subscriber, Subscribers } from "./subscribers.js";

/**
 * The server's demands on the client at DPE-2, where it speaks first: a challenge goes with each request that needs one, and
 * the proof is in the response, in one round trip.
 */
export class ProofChallenger {
  readonly #interface: InterfaceName = "dpe2";
  readonly #policy: GuardPolicy;
  readonly #subscribers: Subscribers;
  readonly #random: (size: number) => Uint8Array;
  readonly #dummyKey: KeyObject;

  constructor(policy: GuardPolicy, subscribers: Subscribers, random: (size: number) => Uint8Array) {
    this.#policy = policy;
    this.#subscribers = subscribers;
    this.#random = random;
    this.#dummyKey = createSecretKey(random(KEY_BYTES));
  }

  /** Before a request is sent: what the association alone comes to. A refusal other than `credentials-required` is final. */
  decide(association: AssociationFacts): ClientDecision {
    return this.#decide(association, undefined);
  }

  /** One message of ours on an association, and its responses. */
  begin(association: AssociationFacts): ProofExchange {
    const { digest } = this.#policy;
    const decision = this.decide(association);
    const isSettled = decision.type === "accept" ? decision.mode !== "none" : decision.error !== "credentials-required";
    if (isSettled || digest === undefined || !this.#policy.clientAuthentication.includes("digest"))
      return { challenge: undefined, judge: () => ({ decision, offer: this.#offer(association, undefined) }) };
    const exchange = new ExchangeNonce(this.#random(NONCE_BYTES));
    const challenge: Challenge = { ...digestPolicy(digest), nonce: exchange.nonce, stale: false };
    return {
      challenge: encodeChallenge({ ...challenge, scope: "request" }),
      judge: (response, uri, now) => {
        const proof = this.#verify(response, uri, challenge, exchange, now);
        const offered = proof?.offer;
        const detail = proof?.detail;
        return {
          decision: this.#decide(association, offered),
          offer: this.#offer(association, offered),
          ...(detail === undefined ? {} : { detail }),
        };
      },
    };
  }

  #verify(
    response: ResponseMessage,
    uri: string,
    challenge: Challenge,
    keeper: ExchangeNonce,
    now: number,
  ): { readonly offer: NonNullable<ClientOffer["digest"]>; readonly detail?: string } | undefined {
    const value = response.options.get(BINDING_OPTION.DigestProof);
    const { digest } = this.#policy;
    if (value === undefined || digest === undefined) return undefined;
    try {
      const proof = decodeAuthorization(value, "Digest-Proof");
      const subscriber = this.#subscribers.ofUsername(proof.username, proof.realm, hashOf(proof.algorithm));
      const context = {
        policy: digestPolicy(digest),
        keeper,
        credential: subscriber?.digest,
        dummyKey: this.#dummyKey,
        decoy: this.#subscribers.decoy,
      };
      const verdict = verifyProof(proof, { uri, body: response.payload }, challenge, context, now);
      if (!verdict.ok) return { offer: verdict.error, detail: verdict.cause };
      return { offer: subscriber ?? "invalid-credentials" };
    } catch (error) {
      if (!(error instanceof SecurityError)) throw error;
      return { offer: "invalid-credentials", detail: error.message };
    }
  }

  #decide(association: AssociationFacts, digest: ClientOffer["digest"]): ClientDecision {
    const offer = this.#offer(association, digest);
    return decide({ interface: this.#interface, side: "server", policy: this.#policy, offer });
  }

  #offer(association: AssociationFacts, digest: ClientOffer["digest"]): ClientOffer {
    const { connection, certificate, rawPublicKey, psk } = association;
    return {
      connection,
      ...(certificate === undefined ? {} : { certificate }),
      ...(rawPublicKey === undefined ? {} : { rawPublicKey }),
      ...(psk === undefined ? {} : { psk }),
      ...(digest === undefined ? {} : { digest }),
    };
  }
}

/** A request of ours with what its responses are judged by. */
export interface ProofExchange {
  /** Value of the Digest-Challenge option to send; undefined where no proof is needed. */
  readonly challenge: Uint8Array | undefined;
  /** Judges a response, or a notification, to the request whose digest-uri is `uri`. */
  judge(
    response: ResponseMessage,
    uri: string,
    now: number,
  ): { readonly decision: ClientDecision; readonly offer: ClientOffer; readonly detail?: string };
}

/** Whether the subscriber that was authenticated at DPE-2 may speak for an endpoint that another registered. */
export function isSameSubscriber(decision: ClientDecision, registered: string | undefined): boolean {
  if (decision.type === "refuse") return false;
  const { subscriber }: { readonly subscriber: Subscriber | undefined } = decision;
  return subscriber === undefined || registered === undefined || subscriber.name === registered;
}

const NONCE_BYTES = 24;
const KEY_BYTES = 32;
