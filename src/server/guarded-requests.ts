import { CODE, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { authErrorName, BINDING_OPTION } from "#dpe/index.js";
import { type Answer, type CoapConnection, formatAddress } from "#net/index.js";
import {
  type AuditEvent,
  type Judgement,
  type PairingDecision,
  refusal,
  type ServerGuard,
  type Subscriber,
} from "#security/index.js";
import type { DeviceSecurity } from "#store/index.js";
import { within } from "#waiting/index.js";
import type { Dpe1Resources } from "./dpe1-resources.js";
import type { Dpe2Connections } from "./dpe2-connections.js";
import type { NetworkPresence } from "./network-presence.js";
import { asksToRenew, type Pairing, pairingDecision } from "./pairing/pairing.js";
import type { PeerFacts } from "./peer-facts.js";
import type { ServerEvent } from "./server-event.js";

/** DPE-1 requests as they come in: each message judged by the guard, and what it accepts served by the resources. */
export class GuardedRequests {
  readonly #parts: GuardedParts;
  /** Answers that wait for the store. */
  readonly #unanswered = new Set<Promise<unknown>>();

  constructor(parts: GuardedParts) {
    this.#parts = parts;
  }

  /** Judges one message of a request, and hands on what is accepted. */
  guard(message: RequestMessage, peer: CoapConnection, serve: Serve): Answer {
    const { guard, facts } = this.#parts;
    const pairing = pairingDecision(message, peer);
    if (pairing !== undefined) return this.#paired(pairing, message, peer, serve);
    const lookup = guard.lookUp(message, facts.of(peer), Date.now());
    if (lookup === undefined) return this.#judged(message, peer, serve);
    return lookup instanceof Promise ? lookup.then((outage) => outage ?? this.#judged(message, peer, serve)) : lookup;
  }

  /** Serves a whole request; `context` is the judgement that accepted it. */
  serve(request: RequestMessage, peer: CoapConnection, context: unknown): Promise<ResponseMessage> {
    const { resources, facts, connections, pairing, guard } = this.#parts;
    if (context === PAIRING) return pairing === undefined ? Promise.resolve(NOT_FOUND) : pairing.pair(request, peer);
    const { mode, subscriber } = context as Extract<Judgement, { type: "accept" }>;
    if (pairing !== undefined && asksToRenew(request)) return pairing.renew(request, subscriber, mode, facts.of(peer));
    const association = facts.of(peer);
    return resources.handle(request, subscriber, {
      sender: guard.isProxy(association) ? undefined : association.address,
      security: () => this.#securityOf(peer, mode),
      onHeard: (registration) => {
        connections.heardOn(registration.endpoint, peer);
        if (registration.isQueueMode) this.#parts.onAwake(registration.endpoint);
      },
      onClientError: (message, client) => this.#clientError(message, client, peer),
      onNotAllowed: (client, why) => this.#notAllowed(client, why, peer),
    });
  }

  /** What has come in is answered: a client that does not hear what became of its request sends it again elsewhere. */
  async settled(timeoutMs: number): Promise<void> {
    await within(timeoutMs, Promise.allSettled(this.#unanswered), () => undefined);
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** What has to do with pairing is decided apart from subscribers, of whom a device that is to be paired is none. */
  #paired(decision: PairingDecision, message: RequestMessage, peer: CoapConnection, serve: Serve): Answer {
    const { onAudit, onEvent } = this.#parts;
    const at = formatAddress(peer.remoteAddress);
    const isAccepted = decision.type === "accept";
    onAudit({
      time: Date.now(),
      outcome: isAccepted ? "success" : "failure",
      interface: "dpe1",
      side: "server",
      mode: "pairing",
      subscriber: undefined,
      peer: at,
      connection: peer.isSecure ? "dtls" : "none",
      rule: decision.rule,
      cause: isAccepted ? "accepted" : decision.error,
    });
    if (!isAccepted) {
      onEvent({ type: "authentication-error", peer: at, error: decision.error, rule: decision.rule });
      return refusal(decision.error);
    }
    const answer = serve(message, PAIRING);
    if (answer instanceof Promise) this.#follow(answer);
    return answer;
  }

  #judged(message: RequestMessage, peer: CoapConnection, serve: Serve): Answer {
    const judgement = this.#parts.guard.judge(message, this.#parts.facts.of(peer), Date.now());
    if (judgement.type === "refuse") {
      this.#parts.onEvent({
        type: "authentication-error",
        peer: formatAddress(peer.remoteAddress),
        error: judgement.error,
        rule: judgement.rule,
      });
      return judgement.response;
    }
    this.#parts.presence.heard(peer);
    const answer = serve(message, judgement);
    if (answer instanceof Promise) this.#follow(answer);
    const { finish } = judgement;
    if (finish === undefined) return answer;
    return answer instanceof Promise
      ? answer.then((response) => ({ ...response, ...finish(response) }))
      : { ...answer, ...finish(answer) };
  }

  /** A client that is who it says asked for what is not its own. */
  #notAllowed(subscriber: Subscriber | undefined, why: string, peer: CoapConnection): void {
    const cause = "not-authorized";
    const rule = `dpe1.subscribers: ${why}`;
    const at = formatAddress(peer.remoteAddress);
    this.#parts.onEvent({ type: "authentication-error", peer: at, error: cause, rule });
    this.#parts.onAudit({
      time: Date.now(),
      outcome: "failure",
      interface: "dpe1",
      side: "server",
      mode: undefined,
      subscriber: subscriber?.name,
      peer: at,
      connection: peer.isSecure ? "dtls" : "none",
      rule,
      cause,
    });
  }

  #follow(answer: Promise<unknown>): void {
    this.#unanswered.add(answer);
    void answer.catch(() => undefined).finally(() => this.#unanswered.delete(answer));
  }

  #securityOf(peer: CoapConnection, authentication: string): DeviceSecurity {
    const { connection } = this.#parts.facts.of(peer);
    const { peerInfo } = peer;
    const suite = peerInfo !== undefined && "suite" in peerInfo ? String(peerInfo.suite) : undefined;
    const level = { connection, ...(suite === undefined ? {} : { cipherSuite: suite }) };
    return {
      dpe1: { ...level, authentication },
      dpe2: { ...level, authentication: this.#parts.dpe2Authentication },
      address: formatAddress(peer.remoteAddress),
    };
  }

  /** A client does not accept this server, or what it answered at DPE-2 (R12): logged, counted and listed. */
  #clientError(request: RequestMessage, subscriber: Subscriber | undefined, peer: CoapConnection): void {
    const authError = request.options.uint(BINDING_OPTION.AuthError);
    const association = this.#parts.facts.of(peer);
    const at = association.peer ?? "";
    this.#parts.onEvent({ type: "client-error", peer: at, subscriber: subscriber?.name, authError });
    this.#parts.onAudit({
      time: Date.now(),
      outcome: "failure",
      interface: "dpe1",
      side: "client",
      mode: undefined,
      subscriber: subscriber?.name,
      peer: at,
      connection: association.connection,
      rule: "the client's own policy",
      cause: (authError === undefined ? undefined : authErrorName(authError)) ?? "unnamed",
    });
  }
}

/** Who a message is from, by the judgement that accepted it. */
export function principalOf(context: unknown): string {
  return (context as Extract<Judgement, { type: "accept" }> | undefined)?.subscriber?.name ?? "";
}

/** The context of what {@link pairingDecision} accepted. */
const PAIRING = Symbol("pairing");
const NOT_FOUND: ResponseMessage = { code: CODE.NotFound, options: Options.none, payload: new Uint8Array(0) };

type Serve = (message: RequestMessage, context?: unknown) => Answer;

export interface GuardedParts {
  readonly guard: ServerGuard;
  readonly resources: Dpe1Resources;
  readonly facts: PeerFacts;
  readonly connections: Dpe2Connections;
  readonly presence: NetworkPresence;
  /** Absent: devices are not paired here. */
  readonly pairing: Pairing | undefined;
  /** What DPE-2 demands of clients, for the device list. */
  readonly dpe2Authentication: string;
  /** An endpoint that sleeps between its reports was heard. */
  readonly onAwake: (endpoint: string) => void;
  readonly onEvent: (event: ServerEvent) => void;
  readonly onAudit: (event: AuditEvent) => void;
}
