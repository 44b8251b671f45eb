import { type CoapConnection, formatAddress } from "#net/index.js";
import type { ExternalIdentities, Subscriber, Subscribers } from "#security/index.js";
import type { PeerFacts } from "./peer-facts.js";
import type { ServerEvent } from "./server-event.js";

/**
 * Whether subscribers whom only the network knows, by their address, are still there. An address is given to somebody else
 * when a session ends, so nothing is asked of it any more, and what was observed there ends at once.
 */
export class NetworkPresence {
  readonly #parts: PresenceParts;
  /** Connections accepted by nothing but their address. */
  readonly #known = new Set<CoapConnection>();
  #isDue = false;

  constructor(parts: PresenceParts) {
    this.#parts = parts;
  }

  /** A request on this connection was accepted. */
  heard(connection: CoapConnection): void {
    if (this.#parts.facts.of(connection).externalSubscriber !== undefined) this.#known.add(connection);
  }

  /** The network told something: looks at what is known once for all that it tells in one turn. */
  changed(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.sweep();
    });
  }

  /** Ends connections of subscribers that are gone, by Stop or because nothing was heard of their session for too long. */
  sweep(): void {
    for (const connection of this.#known) {
      const { externalSubscriber, address } = this.#parts.facts.of(connection);
      if (!connection.isClosed && externalSubscriber !== undefined && this.#isAt(externalSubscriber, address)) continue;
      this.#known.delete(connection);
      if (connection.isClosed || externalSubscriber === undefined) continue;
      const cause = `the network does not have ${externalSubscriber.name} at this address any more`;
      this.#parts.onEvent({ type: "association-ended", peer: formatAddress(connection.remoteAddress), cause });
      void connection.close();
    }
  }

  /**
   * Whether DPE-2 may go to an address on behalf of an endpoint that was heard on `heard` last. Not heard since this process
   * began, a subscriber that has an identity in the network must be at that address by the network's word.
   */
  allows(subscriber: Subscriber | undefined, heard: CoapConnection | undefined, to: CoapConnection): boolean {
    if (to.isSecure || subscriber === undefined) return true;
    const isNetworks =
      heard === undefined
        ? this.#parts.external?.knowsAddresses === true && subscriber.identities !== undefined
        : this.#parts.facts.of(heard).externalSubscriber !== undefined;
    return !isNetworks || this.#isAt(subscriber, this.#parts.facts.of(to).address);
  }

  #isAt({ name }: Subscriber, address: string): boolean {
    const identity = this.#parts.external?.ofAddress(address);
    return identity !== undefined && this.#parts.subscribers.ofIdentity(identity)?.name === name;
  }
}

export interface PresenceParts {
  readonly external: ExternalIdentities | undefined;
  readonly subscribers: Subscribers;
  readonly facts: PeerFacts;
  readonly onEvent: (event: ServerEvent) => void;
}
