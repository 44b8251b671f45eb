import type { AuthErrorName, InterfaceName } from "#dpe/index.js";
import { decideOnClient, type ClientOffer } from "./decide-on-client.js";
import { decideOnServer, type ServerOffer } from "./decide-on-server.js";
import type { ClientAuthentication, ClientPolicy, ServerAuthentication, ServerPolicy } from "./policy.js";
import type { Subscriber } from "./subscribers.js";

/**
 * Decides one exchange from the interface, the side that decides, its policy and what the peer offers, and from nothing else.
 * Every decision names its rule.
 */
export function decide(exchange: ServerExchange): ClientDecision;
export function decide(exchange: ClientExchange): ServerDecision;
export function decide(exchange: Exchange): Decision;
export function decide(exchange: Exchange): Decision {
  return exchange.side === "server"
    ? decideOnClient(exchange.interface, exchange.policy, exchange.offer)
    : decideOnServer(exchange.interface, exchange.policy, exchange.offer);
}

export type Exchange = ServerExchange | ClientExchange;

/** A server decides on a client. */
export interface ServerExchange {
  readonly interface: InterfaceName;
  readonly side: "server";
  readonly policy: ServerPolicy;
  readonly offer: ClientOffer;
}

/** A client decides on a server. */
export interface ClientExchange {
  readonly interface: InterfaceName;
  readonly side: "client";
  readonly policy: ClientPolicy;
  readonly offer: ServerOffer;
}

export type Decision = ClientDecision | ServerDecision;

/** Of a server on a client. */
export type ClientDecision =
  | {
      readonly type: "accept";
      readonly rule: string;
      readonly mode: ClientAuthentication;
      readonly subscriber: Subscriber | undefined;
    }
  | Refusal;

/** Of a client on a server. */
export type ServerDecision =
  | { readonly type: "accept"; readonly rule: string; readonly mode: ServerAuthentication }
  | Refusal;

export interface Refusal {
  readonly type: "refuse";
  readonly rule: string;
  readonly error: AuthErrorName;
}
