import type { Message } from "./backend.js";

/** Messages within one process; each listener hears them after the publisher has gone on. */
export class LocalChannels {
  readonly #listeners = new Map<string, Set<(message: Uint8Array) => void>>();

  publish(channel: string, message: Message): void {
    const listeners = this.#listeners.get(channel);
    if (listeners === undefined) return;
    const bytes = message();
    for (const listener of listeners) setImmediate(listener, bytes);
  }

  subscribe(channel: string, listener: (message: Uint8Array) => void): () => void {
    let listeners = this.#listeners.get(channel);
    if (listeners === undefined) this.#listeners.set(channel, (listeners = new Set()));
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(channel) === listeners) this.#listeners.delete(channel);
    };
  }
}
