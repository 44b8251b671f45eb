import type { IncomingRequest, Peer } from "#coap/index.js";

/**
 * Peers that observe and have not shown that they receive, with their observations. An observer holds its place among the peers:
 * those of whom nobody knows whether they are there must hold neither all of those places, nor all observations.
 */
export class UnprovenObservers {
  readonly #maxPeers: number;
  readonly #maxObservations: number;
  /** With how many observations each. */
  readonly #peers = new Map<Peer, number>();
  #observations = 0;

  constructor(maxPeers: number, maxObservations: number) {
    this.#maxPeers = maxPeers;
    this.#maxObservations = maxObservations;
  }

  /** What is observed already may be asked for anew. */
  mayObserve({ peer, tokenKey }: IncomingRequest): boolean {
    if (peer.observed?.has(tokenKey) === true) return true;
    if (this.#observations >= this.#maxObservations) return false;
    return this.#peers.has(peer) || this.#peers.size < this.#maxPeers;
  }

  began(peer: Peer): void {
    this.#count(peer, peer.observed?.size ?? 0);
  }

  /** One of any peer, proven or not. */
  ended(peer: Peer): void {
    if (this.#peers.has(peer)) this.#count(peer, peer.observed?.size ?? 0);
  }

  proved(peer: Peer): void {
    this.#count(peer, 0);
  }

  #count(peer: Peer, observations: number): void {
    this.#observations += observations - (this.#peers.get(peer) ?? 0);
    if (observations === 0) this.#peers.delete(peer);
    else this.#peers.set(peer, observations);
  }
}
