import type { AssociationFacts } from "./association-facts.js";
import type { SubscriberIdentity } from "./subscriber-identity.js";

/**
 * What functions outside of DPE know of subscribers (R06, R14): the sessions of a RADIUS client, and which peers are
 * proxies that insert Subscriber-Identity. Asked for each message, so it answers from memory.
 */
export interface ExternalIdentities {
  /** Who is at an address (canonical, as `canonicalIpAddress` gives it) now; undefined when nobody is known to be. */
  ofAddress(address: string): SubscriberIdentity | undefined;
  /** Whether `ofAddress` can know anybody at all. Default false. */
  readonly knowsAddresses?: boolean;
  /**
   * Whether a peer is a proxy that may insert Subscriber-Identity. What a proxy's own connection proves (its certificate,
   * PSK or key, its address) then never authenticates a client.
   */
  mayInsert(facts: AssociationFacts): boolean;
}

/** Nobody is known from outside, and no peer is a proxy. */
export const NO_EXTERNAL_IDENTITIES: ExternalIdentities = { ofAddress: () => undefined, mayInsert: () => false };
