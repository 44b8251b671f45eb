import { canonicalIpAddress } from "#ip/index.js";
import type { AuditEvent } from "./audit-event.js";
import { addressPrefix } from "./failure-limits.js";

/**
 * Who caused an event, for what bounds how much of a trail each may fill: a subscriber that was authenticated, or an address
 * that takes part in a handshake. On plain UDP an address may be forged, so that all of them are one.
 */
export function auditSourceOf(event: AuditEvent): { readonly isProven: boolean; readonly name: string } {
  const { outcome, side, subscriber, connection, peer } = event;
  // On a failure that the server found the name is what the peer claims.
  if (subscriber !== undefined && (outcome === "success" || side === "client"))
    return { isProven: true, name: subscriber };
  if (connection === "none") return { isProven: false, name: "plain connections" };
  const address = peer.slice(0, Math.max(0, peer.lastIndexOf(":"))).replaceAll(/[[\]]/g, "");
  return { isProven: false, name: addressPrefix(canonicalIpAddress(address) ?? address) };
}
