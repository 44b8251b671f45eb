import type { ClientOffer } from "./decide-on-client.js";
import type { ServerOffer } from "./decide-on-server.js";
import { cleanText } from "./audit-event.js";

/** An offer as words: of a subscriber its name. For the audit trail and `dpe explain`. */
export function offerAsText(offer: ClientOffer | ServerOffer): Readonly<Record<string, string>> {
  const entries = Object.entries(offer).flatMap(([name, value]: readonly [string, unknown]) => {
    if (typeof value === "string") return [[name, value]] as const;
    return typeof value === "object" && value !== null && "name" in value
      ? ([[name, cleanText(String(value.name))]] as const)
      : [];
  });
  return Object.fromEntries(entries);
}
