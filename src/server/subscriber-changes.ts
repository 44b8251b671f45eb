import { DpeError, type Registration } from "#dpe/index.js";
import type { Subscriber } from "#security/index.js";
import type { Store } from "#store/index.js";
import type { AssociationReview } from "./association-review.js";
import type { ServerCredentials } from "./server-credentials.js";
import type { ServerListeners } from "./server-listeners.js";
import type { SubscriberConfig } from "./subscriber-config.js";

/**
 * What ends when subscribers change: whatever was authenticated by a credential that has changed or is gone, at once: its
 * associations, its Digest bindings, and with a subscriber that is gone its registrations. The directory decides who
 * there is, and asks nobody else to change it.
 */
export class SubscriberChanges {
  readonly #parts: SubscriberChangesParts;

  constructor(parts: SubscriberChangesParts) {
    this.#parts = parts;
  }

  /** Takes subscribers in place of those before. @throws DigestError DIGEST_BAD_USERNAME, changing nothing. */
  async replace(subscribers: readonly SubscriberConfig[]): Promise<void> {
    await this.#changing(() => this.#parts.credentials.replaceSubscribers(subscribers));
  }

  /** Takes one, or none of that name; false, changing nothing, where {@link replace} is to be asked. @throws as it does. */
  change(name: string, subscriber: SubscriberConfig | undefined): Promise<boolean> {
    return this.#changing(() => this.#parts.credentials.changeSubscriber(name, subscriber));
  }

  async #changing(change: () => readonly Subscriber[] | undefined): Promise<boolean> {
    const { credentials, review, listeners } = this.#parts;
    const { hasPsk } = credentials;
    const former = change();
    if (former === undefined) return false;
    review.endOf(former);
    if (credentials.hasPsk !== hasPsk) listeners().replaceCredentials();
    for (const { name } of former)
      if (credentials.subscribers.named(name) === undefined) await this.#deregisterAll(name);
    return true;
  }

  async #deregisterAll(subscriber: string): Promise<void> {
    const { registrations } = this.#parts.store;
    for (let after: string | undefined; ;) {
      const page = { ...(after === undefined ? {} : { after }), limit: PAGE };
      const { registrations: all, next } = await registrations.ofSubscriber(subscriber, page, Date.now());
      for (const { id } of all) await this.#deregister(id, subscriber);
      if (next === undefined) return;
      after = next;
    }
  }

  async #deregister(id: string, subscriber: string): Promise<void> {
    const { store, onDeregistered } = this.#parts;
    try {
      onDeregistered(await store.registrations.deregister(id, subscriber, Date.now()));
    } catch (error) {
      // Another server of the store was faster, or the device itself.
      if (!(error instanceof DpeError && error.code === "DPE_UNKNOWN_REGISTRATION")) throw error;
    }
  }
}

export interface SubscriberChangesParts {
  readonly store: Store;
  readonly credentials: ServerCredentials;
  readonly review: AssociationReview;
  /** There from when the server listens. */
  readonly listeners: () => ServerListeners;
  readonly onDeregistered: (registration: Registration) => void;
}

const PAGE = 500;
