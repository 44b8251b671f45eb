import { AUTH_ERROR, CONNECTION_LEVEL, type ConnectionLevel, type InterfaceName } from "#dpe/index.js";
import type { ClientOffer } from "./decide-on-client.js";
import type { ServerOffer } from "./decide-on-server.js";
import { decide, type Exchange } from "./decision.js";
import { SecurityError } from "./errors.js";
import { offerAsText } from "./offer-text.js";
import { CLIENT_AUTHENTICATIONS, type ClientPolicy, SERVER_AUTHENTICATIONS, type ServerPolicy } from "./policy.js";
import type { Subscriber } from "./subscribers.js";

/**
 * An exchange from words, as the audit trail has them: `connection` and `requestedConnection` by level, each mode of a client
 * by a subscriber's name, `unknown` or a fault, each mode of a server by `valid` or `invalid`.
 *
 * @throws SecurityError SECURITY_BAD_EXCHANGE that names the word.
 */
export function exchangeOf(description: ExchangeDescription): Exchange {
  const { interface: interfaceName, policy, offered, subscriberOf } = description;
  const connection = levelOf("connection", offered["connection"] ?? "none");
  if ("clientAuthentication" in policy) {
    const requested = offered["requestedConnection"];
    const offer: Record<string, unknown> = {
      connection,
      ...(requested === undefined ? {} : { requestedConnection: levelOf("requestedConnection", requested) }),
    };
    for (const [mode, word] of modesOf(offered, CLIENT_AUTHENTICATIONS)) {
      offer[mode] = FAULTS[mode]?.includes(word) === true ? word : subscriberOf(word);
      if (offer[mode] === undefined) throw bad(`${mode}=${word}: there is no such subscriber or fault`);
    }
    return { interface: interfaceName, side: "server", policy, offer: offer as unknown as ClientOffer };
  }
  const offer: Record<string, unknown> = { connection };
  for (const [mode, word] of modesOf(offered, SERVER_AUTHENTICATIONS)) {
    if (word !== "valid" && word !== "invalid") throw bad(`${mode}=${word}: a server's part is valid or invalid`);
    offer[mode] = word;
  }
  return { interface: interfaceName, side: "client", policy, offer: offer as unknown as ServerOffer };
}

export interface ExchangeDescription {
  readonly interface: InterfaceName;
  /** Of a server on clients, or of a client on servers. */
  readonly policy: ServerPolicy | ClientPolicy;
  readonly offered: Readonly<Record<string, string>>;
  readonly subscriberOf: (name: string) => Subscriber | undefined;
}

/** The decision of an exchange, in lines for a person. */
export function explain(exchange: Exchange): string {
  const decision = decide(exchange);
  const { policy, offer } = exchange;
  const [kind, modes] =
    "clientAuthentication" in policy
      ? ["clientAuthentication", policy.clientAuthentication]
      : ["serverAuthentication", policy.serverAuthentication];
  const offered = Object.entries(offerAsText(offer)).map(([name, value]) => `${name} ${value}`);
  const outcome =
    decision.type === "refuse"
      ? `refused: ${decision.error} (Auth-Error ${AUTH_ERROR[decision.error]})`
      : `accepted by ${decision.mode}${"subscriber" in decision ? `, subscriber ${decision.subscriber?.name ?? "none"}` : ""}`;
  const lines = [
    ["interface", `${exchange.interface}, the ${exchange.side} decides`],
    ["policy", `connection ${policy.connection}; ${kind} ${modes.join(", ")}`],
    ["offered", offered.join("; ")],
    ["decision", outcome],
    ["rule", decision.rule],
  ];
  return lines.map(([name = "", text = ""]) => `${name.padEnd(10)} ${text}\n`).join("");
}

function* modesOf(
  offered: Readonly<Record<string, string>>,
  modes: readonly string[],
): Generator<readonly [string, string]> {
  for (const [name, word] of Object.entries(offered)) {
    if (name === "connection" || name === "requestedConnection") continue;
    if (name === "none" || !modes.includes(name))
      throw bad(`${name}: what is offered is ${modes.filter((mode) => mode !== "none").join(", ")}`);
    yield [name, word];
  }
}

function levelOf(name: string, word: string): ConnectionLevel {
  if (!Object.hasOwn(CONNECTION_LEVEL, word)) throw bad(`${name}=${word}: a level is none or dtls`);
  return word as ConnectionLevel;
}

function bad(what: string): SecurityError {
  return new SecurityError("SECURITY_BAD_EXCHANGE", what);
}

/** What may be offered besides a subscriber. */
const FAULTS: Readonly<Record<string, readonly string[]>> = {
  certificate: ["unknown"],
  rawPublicKey: ["unknown"],
  psk: ["unknown"],
  external: ["unknown", "untrusted"],
  digest: ["invalid-credentials", "stale-nonce", "replayed", "unsupported-method", "too-many-failures"],
};
