import { CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import type { AuthenticationInfo, DigestResponse } from "#digest/index.js";
import { BINDING_OPTION, CONNECTION_LEVEL, type InterfaceName } from "#dpe/index.js";
import type { AssociationFacts } from "./association-facts.js";
import { type AuditEvent, cleanText } from "./audit-event.js";
import type { ClientOffer } from "./decide-on-client.js";
import { type ClientDecision, decide, type Refusal } from "./decision.js";
import { encodeInfo } from "./digest-options.js";
import { digestUri } from "./digest-uri.js";
import { SecurityError } from "./errors.js";
import { type ExternalIdentities, NO_EXTERNAL_IDENTITIES } from "./external-identities.js";
import { offerAsText } from "./offer-text.js";
import type { ServerPolicy } from "./policy.js";
import { problem, refusal } from "./refusal.js";
import { type DigestVerdict, type GuardDigest, ServerDigest } from "./server-digest.js";
import { decodeSubscriberIdentity } from "./subscriber-identity.js";
import type { GbaCredentials, GbaLookup } from "./gba-credentials.js";
import type { Subscribers } from "./subscribers.js";

/**
 * The server's security at one interface: judges each message of a request, block by block, before anything else looks at
 * it. Keeps no state for whoever has not authenticated, but for bounded counts of failures.
 */
export class ServerGuard {
  readonly #interface: InterfaceName;
  readonly #policy: GuardPolicy;
  readonly #surroundings: GuardSurroundings;
  readonly #external: ExternalIdentities;
  readonly #digest: ServerDigest | undefined;

  constructor(interfaceName: InterfaceName, policy: GuardPolicy, surroundings: GuardSurroundings) {
    const { subscribers, external, random } = surroundings;
    this.#interface = interfaceName;
    this.#policy = policy;
    this.#surroundings = surroundings;
    this.#external = external ?? NO_EXTERNAL_IDENTITIES;
    this.#digest =
      policy.digest !== undefined && policy.clientAuthentication.includes("digest")
        ? new ServerDigest(policy.digest, subscribers, random, surroundings.gba)
        : undefined;
  }

  /** Whether a peer speaks for clients elsewhere: its address is then none of theirs. */
  isProxy(association: AssociationFacts): boolean {
    return this.#external.mayInsert(association);
  }

  /**
   * Before a message is judged: asks outside for the credential that it names, where one is to be asked for. Gives the answer
   * to send where that fails; undefined: judge it now, or when the promise is fulfilled with undefined.
   */
  lookUp(
    message: RequestMessage,
    association: AssociationFacts,
    now: number,
  ): Promise<ResponseMessage | undefined> | ResponseMessage | undefined {
    const lookup = this.#digest?.lookUp(message, association, now);
    return lookup instanceof Promise ? lookup.then(outageOf) : lookup && outageOf(lookup);
  }

  /** `now` is milliseconds since 1970. */
  judge(message: RequestMessage, association: AssociationFacts, now: number): Judgement {
    let verdict: DigestVerdict | undefined;
    let offer: ClientOffer;
    if ((association.digestExpiresAt ?? Infinity) <= now) delete association.digestSubscriber;
    try {
      verdict = this.#digest?.verify(message, association, now);
      offer = this.#offerOf(message, association, verdict);
    } catch (error) {
      if (!(error instanceof SecurityError)) throw error;
      const rule = `${this.#interface}: ${error.message}`;
      const refused = { type: "refuse", rule, error: "invalid-credentials" } as const;
      this.#audit(refused, association, undefined, undefined, now);
      return { ...refused, response: problem(CODE.BadRequest, error.message) };
    }
    const decision = decide({ interface: this.#interface, side: "server", policy: this.#policy, offer });
    if (decision.type === "accept") {
      this.#bind(decision, association, verdict);
      const isByAddress = decision.mode === "external" && !message.options.has(BINDING_OPTION.SubscriberIdentity);
      if (isByAddress && decision.subscriber !== undefined) association.externalSubscriber = decision.subscriber;
      else delete association.externalSubscriber;
      this.#audit(decision, association, offer, verdict, now);
      const info = verdict?.info;
      return {
        ...decision,
        ...(info === undefined ? {} : { finish: (response) => withInfo(response, message, info) }),
      };
    }
    const isOpen = this.#surroundings.isOpen?.(message) === true && OPEN_DESPITE.has(decision.error);
    if (isOpen) return { type: "accept", rule: `${this.#interface}: open`, mode: "none", subscriber: undefined };
    this.#audit(decision, association, offer, verdict, now);
    return { ...decision, response: this.#refusal(decision, association, verdict?.waitMs, now) };
  }

  #offerOf(message: RequestMessage, association: AssociationFacts, verdict: DigestVerdict | undefined): ClientOffer {
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
    const subscriber = identity === undefined ? undefined : this.#surroundings.subscribers.ofIdentity(identity);
    const external = identity === undefined ? undefined : (subscriber ?? "unknown");
    const digest = verdict?.offer ?? (isProxy ? undefined : digestSubscriber);
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

  #bind(
    decision: Extract<ClientDecision, { type: "accept" }>,
    association: AssociationFacts,
    verdict: DigestVerdict | undefined,
  ): void {
    const isBinding =
      decision.mode === "digest" &&
      this.#policy.digest?.scope === "association" &&
      association.connection === "dtls" &&
      !this.#external.mayInsert(association);
    // A message without an answer of its own is accepted by an earlier one, whose end stays as it is.
    if (!isBinding || decision.subscriber === undefined || verdict === undefined) return;
    association.digestSubscriber = decision.subscriber;
    if (verdict.expiresAt === undefined) delete association.digestExpiresAt;
    else association.digestExpiresAt = verdict.expiresAt;
  }

  #refusal(
    { error }: Refusal,
    association: AssociationFacts,
    waitMs: number | undefined,
    now: number,
  ): ResponseMessage {
    switch (error) {
      case "security-required":
        return refusal(error, {
          securityRequired: { port: this.#policy.securePort, interfaceName: this.#interface },
        });
      case "too-many-failures":
        return refusal(error, { maxAgeSeconds: Math.ceil((waitMs ?? 0) / 1000) });
      case "credentials-required":
      case "invalid-credentials":
      case "stale-nonce":
      case "replayed":
      case "unsupported-method": {
        if (this.#digest === undefined) return refusal(error);
        return refusal(error, { challenge: this.#digest.challenge(association, now, error === "stale-nonce") });
      }
      case "not-authorized":
      case "untrusted-identity":
      case "server-not-accepted":
        return refusal(error);
    }
  }

  /** What holds for the whole association is told once; a challenge or a stale nonce is no failure. */
  #audit(
    decision: ClientDecision,
    association: AssociationFacts,
    offer: ClientOffer | undefined,
    verdict: DigestVerdict | undefined,
    now: number,
  ): void {
    const { onAudit } = this.#surroundings;
    if (onAudit === undefined) return;
    if (decision.type === "accept") {
      const told = `${this.#interface} ${decision.mode} ${decision.subscriber?.name ?? ""}`;
      if (association.told === told && (decision.mode !== "digest" || verdict === undefined)) return;
      association.told = told;
    } else if (decision.error === "credentials-required" || decision.error === "stale-nonce") return;
    const common = {
      time: now,
      interface: this.#interface,
      side: "server",
      peer: association.peer ?? association.address,
      connection: association.connection,
      rule: decision.rule,
      ...(offer === undefined ? {} : { offer: offerAsText(offer) }),
    } as const;
    if (decision.type === "accept") {
      const { mode, subscriber } = decision;
      onAudit({ ...common, outcome: "success", mode, subscriber: subscriber?.name, cause: "accepted" });
      return;
    }
    const { detail } = verdict ?? {};
    onAudit({
      ...common,
      outcome: "failure",
      mode: verdict === undefined ? undefined : "digest",
      subscriber: verdict === undefined ? undefined : cleanText(verdict.claimed),
      cause: decision.error,
      ...(detail === undefined ? {} : { detail }),
    });
  }
}

/** An interface's policy with what Digest needs. */
export interface GuardPolicy extends ServerPolicy {
  readonly digest?: GuardDigest;
  /** The coaps port, told to clients that come without DTLS. */
  readonly securePort?: number | undefined;
}

/** What a guard asks, and whom it tells. */
export interface GuardSurroundings {
  readonly subscribers: Subscribers;
  /** Default: nobody is known from outside. */
  readonly external?: ExternalIdentities | undefined;
  /** Credentials that are asked for elsewhere. Default: none. */
  readonly gba?: GbaCredentials | undefined;
  /** A cryptographic source. */
  readonly random: (size: number) => Uint8Array;
  /**
   * What anybody may ask without being known: discovery, and the client's authentication error about a server that it will
   * not show a credential to. Default: nothing.
   */
  readonly isOpen?: (message: RequestMessage) => boolean;
  readonly onAudit?: (event: AuditEvent) => void;
}

export type Judgement =
  | (Extract<ClientDecision, { type: "accept" }> & {
      /** Adds what proves the server to the client (Digest-Info) to the response. */
      readonly finish?: (response: ResponseMessage) => ResponseMessage;
    })
  | (Refusal & { readonly response: ResponseMessage });

/** An unknown credential is judged like a wrong one; only a resolver that does not answer is told, so that the client waits. */
function outageOf(lookup: GbaLookup): ResponseMessage | undefined {
  if (lookup === "known" || lookup === "unknown") return undefined;
  const options = Options.none.with(OPTION.MaxAge, OUTAGE_SECONDS);
  return problem(CODE.ServiceUnavailable, "credentials cannot be looked up now", options);
}

function withInfo(
  response: ResponseMessage,
  request: RequestMessage,
  info: (response: DigestResponse) => AuthenticationInfo,
): ResponseMessage {
  const value = encodeInfo(info({ uri: digestUri(request.options), body: response.payload }));
  return { ...response, options: response.options.with(BINDING_OPTION.DigestInfo, value) };
}

/** Where nothing, or too little, was offered. What was offered wrongly is refused there too. */
const OPEN_DESPITE: ReadonlySet<string> = new Set(["credentials-required", "security-required", "not-authorized"]);
const OUTAGE_SECONDS = 10;
