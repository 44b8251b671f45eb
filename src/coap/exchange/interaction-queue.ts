import type { EndpointCore } from "./core.js";
import type { Peer } from "./peer.js";

/** Keeps the interactions toward each peer within NSTART (RFC 7252 §4.7): those beyond it wait for their turn. */
export class InteractionQueue {
  readonly #core: EndpointCore;

  constructor(core: EndpointCore) {
    this.#core = core;
  }

  /** Starts the interaction now or later. Returns false where the peer's queue is full: it is never started then. */
  enter(interaction: Interaction, now: number): boolean {
    const { peer } = interaction;
    if (peer.outstanding < this.#core.parameters.nstart) {
      this.#start(interaction, now);
      return true;
    }
    peer.queue ??= [];
    if (peer.queue.length >= this.#core.limits.maxQueuedRequestsPerPeer) return false;
    peer.queue.push(interaction);
    return true;
  }

  /** Gives the interaction's place to the next, or takes it out of the queue. Harmless where it has neither. */
  leave(interaction: Interaction, now: number): void {
    const { peer } = interaction;
    if (interaction.holdsPlace) {
      interaction.holdsPlace = false;
      peer.outstanding--;
      const next = peer.queue?.shift();
      if (next !== undefined) this.#start(next, now);
    } else if (peer.queue !== undefined) {
      const index = peer.queue.indexOf(interaction);
      if (index >= 0) peer.queue.splice(index, 1);
    }
    if (peer.queue?.length === 0) peer.queue = undefined;
  }

  #start(interaction: Interaction, now: number): void {
    interaction.holdsPlace = true;
    interaction.peer.outstanding++;
    interaction.start(now);
  }
}

/** What is sent and waited for: it counts for NSTART from its start until it leaves. */
export interface Interaction {
  readonly peer: Peer;
  /** The queue's to write. */
  holdsPlace: boolean;
  start(now: number): void;
}
