import { CONNECTION_LEVEL, type ConnectionLevel, type InterfaceName } from "#dpe/index.js";
import type { ServerDecision } from "./decision.js";
import type { ClientPolicy, ServerAuthentication } from "./policy.js";

/**
 * A client's decision on a server (R03, R10, R11): connection security first, then the first mode of the policy that the
 * server satisfies. What a listed mode found wrong is refused even where `none` would accept.
 */
export function decideOnServer(interfaceName: InterfaceName, policy: ClientPolicy, offer: ServerOffer): ServerDecision {
  if (CONNECTION_LEVEL[offer.connection] < CONNECTION_LEVEL[policy.connection]) {
    const rule = `${interfaceName}.connection: ${policy.connection} is the least accepted`;
    return { type: "refuse", rule, error: "security-required" };
  }
  const modes = policy.serverAuthentication;
  const list = `${interfaceName}.serverAuthentication`;
  let wrong: ServerAuthentication | undefined;
  for (const mode of modes) {
    if (mode === "none") continue;
    if (offer[mode] === "valid") return { type: "accept", rule: `${list}: ${mode}`, mode };
    if (offer[mode] === "invalid") wrong ??= mode;
  }
  if (wrong !== undefined) {
    return { type: "refuse", rule: `${list}: ${wrong} does not hold`, error: "server-not-accepted" };
  }
  if (modes.includes("none")) return { type: "accept", rule: `${list}: none`, mode: "none" };
  return { type: "refuse", rule: `${list}: one of ${modes.join(", ")}`, error: "server-not-accepted" };
}

/** What a server shows of itself, each part verified before. A part that was not asked for, or not shown, is left out. */
export interface ServerOffer {
  readonly connection: ConnectionLevel;
  /** To one of our anchors, and to the name that was dialled. */
  readonly certificate?: "valid" | "invalid";
  /** One of the keys that we expect. */
  readonly rawPublicKey?: "valid" | "invalid";
  /** The server holds our pre-shared key. */
  readonly psk?: "valid" | "invalid";
  /** Its address, or the name that was dialled, is listed. */
  readonly address?: "valid" | "invalid";
}
