import { CONNECTION_LEVEL, type ConnectionLevel, type InterfaceName } from "#dpe/index.js";
import type { ClientDecision, Refusal } from "./decision.js";
import type { ServerPolicy } from "./policy.js";
import { mayUse, type Subscriber } from "./subscribers.js";

/**
 * A server's decision on a client: connection security first, then the first mode of the policy that the request offers, then
 * the subscriber's right to the interface. A Digest answer that is wrong is refused even where `none` would accept, and an
 * inserted identity that is not trusted is refused always: whoever offers credentials means them.
 */
export function decideOnClient(interfaceName: InterfaceName, policy: ServerPolicy, offer: ClientOffer): ClientDecision {
  const level = CONNECTION_LEVEL[offer.connection];
  if (level < CONNECTION_LEVEL[policy.connection]) {
    return refuse("security-required", `${interfaceName}.connection: ${policy.connection} is the least accepted`);
  }
  if (offer.requestedConnection !== undefined && level < CONNECTION_LEVEL[offer.requestedConnection]) {
    return refuse("security-required", `${interfaceName}: the client asks for ${offer.requestedConnection}`);
  }
  const modes = policy.clientAuthentication;
  const list = `${interfaceName}.clientAuthentication`;
  if (offer.external === "untrusted") {
    return refuse("untrusted-identity", `${interfaceName}: Subscriber-Identity from a peer that may not insert it`);
  }
  for (const mode of modes) {
    if (mode === "none") continue;
    const offered = offer[mode];
    if (offered === undefined || offered === "unknown" || offered === "untrusted") continue;
    const rule = `${list}: ${mode}`;
    if (typeof offered === "string") return refuse(offered, rule);
    if (!mayUse(offered, interfaceName))
      return refuse("not-authorized", `${rule}: ${offered.name} may not use ${interfaceName}`);
    return { type: "accept", rule, mode, subscriber: offered };
  }
  if (modes.includes("none")) {
    if (typeof offer.digest === "string") return refuse(offer.digest, `${list}: none, but Digest was answered wrongly`);
    return { type: "accept", rule: `${list}: none`, mode: "none", subscriber: undefined };
  }
  // A known way is left to try only where the client can be challenged.
  const isStranger = modes.some((mode) => mode !== "none" && offer[mode] === "unknown");
  if (isStranger && !modes.includes("digest")) return refuse("not-authorized", `${list}: no subscriber's credential`);
  return refuse("credentials-required", `${list}: one of ${modes.join(", ")}`);
}

/** What one request, or on DPE-2 one response, offers; each part verified before by the layer that it belongs to. */
export interface ClientOffer {
  readonly connection: ConnectionLevel;
  /** The least connection security that the client asks for (R17). */
  readonly requestedConnection?: ConnectionLevel;
  readonly certificate?: Subscriber | "unknown";
  readonly rawPublicKey?: Subscriber | "unknown";
  readonly psk?: Subscriber | "unknown";
  /** From outside of DPE (R14). `untrusted`: inserted by a peer that may not insert. */
  readonly external?: Subscriber | "unknown" | "untrusted";
  readonly digest?: Subscriber | DigestFault;
}

export type DigestFault =
  | "invalid-credentials"
  | "stale-nonce"
  | "replayed"
  | "unsupported-method"
  | "too-many-failures";

function refuse(error: Refusal["error"], rule: string): Refusal {
  return { type: "refuse", rule, error };
}
