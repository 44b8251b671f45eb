import type { ResponseMessage } from "../exchange/messages.js";
import type { BodyBuffer } from "./body-buffer.js";

/**
 * The bodies under way of all peers, by peer and operation, within the bounds of their number and bytes. All live equally
 * long since they were kept last, so that one set in that order is their timer.
 */
export class TransferTable<P extends object> {
  readonly #bounds: TransferBounds;
  readonly #peers = new Map<P, Map<string, Kept<P>>>();
  readonly #byAge = new Set<Kept<P>>();
  #bytes = 0;

  constructor(bounds: TransferBounds) {
    this.#bounds = bounds;
  }

  get bytes(): number {
    return this.#bytes;
  }

  find(peer: P, key: string): Transfer<P> | undefined {
    return this.#peers.get(peer)?.get(key)?.transfer;
  }

  /**
   * Keeps a transfer in place of the one before of the same operation, which is gone in any case. A peer's oldest makes way
   * for its newer ones. Returns whether there is room.
   */
  keep(transfer: Transfer<P>, now: number): boolean {
    const { peer, key, bytes } = transfer;
    this.forget(peer, key);
    for (const oldest of this.#peers.get(peer)?.values() ?? []) {
      if ((this.#peers.get(peer)?.size ?? 0) < this.#bounds.maxTransfersPerPeer) break;
      this.#remove(oldest);
    }
    if (transfer.type === "request") this.#dropResponses(bytes);
    if (this.#bytes + bytes > this.#bounds.maxBufferedBytes) return false;
    const kept: Kept<P> = { transfer, expiresAt: now + this.#bounds.lifetimeMs };
    let transfers = this.#peers.get(peer);
    if (transfers === undefined) {
      transfers = new Map();
      this.#peers.set(peer, transfers);
    }
    transfers.set(key, kept);
    this.#byAge.add(kept);
    this.#bytes += bytes;
    return true;
  }

  forget(peer: P, key: string): void {
    const kept = this.#peers.get(peer)?.get(key);
    if (kept !== undefined) this.#remove(kept);
  }

  closePeer(peer: P): void {
    for (const kept of this.#peers.get(peer)?.values() ?? []) this.#remove(kept);
  }

  nextTimeout(): number | undefined {
    for (const oldest of this.#byAge) return oldest.expiresAt;
    return undefined;
  }

  sweep(now: number): void {
    for (const kept of this.#byAge) {
      if (kept.expiresAt > now) return;
      this.#remove(kept);
    }
  }

  /** The oldest responses first: a client can ask for them anew. */
  #dropResponses(neededBytes: number): void {
    for (const kept of this.#byAge) {
      if (this.#bytes + neededBytes <= this.#bounds.maxBufferedBytes) return;
      if (kept.transfer.type === "response") this.#remove(kept);
    }
  }

  #remove(kept: Kept<P>): void {
    const { peer, key, bytes } = kept.transfer;
    const transfers = this.#peers.get(peer);
    transfers?.delete(key);
    if (transfers?.size === 0) this.#peers.delete(peer);
    this.#byAge.delete(kept);
    this.#bytes -= bytes;
  }
}

/** A body under way: of a request that is being put together, or of a response that is being read. */
export type Transfer<P> =
  | {
      readonly type: "request";
      readonly peer: P;
      readonly key: string;
      readonly body: BodyBuffer;
      readonly bytes: number;
    }
  | {
      readonly type: "response";
      readonly peer: P;
      readonly key: string;
      readonly response: ResponseMessage;
      readonly bytes: number;
    };

export interface TransferBounds {
  readonly maxTransfersPerPeer: number;
  readonly maxBufferedBytes: number;
  readonly lifetimeMs: number;
}

interface Kept<P> {
  readonly transfer: Transfer<P>;
  /** Absolute ms. */
  readonly expiresAt: number;
}
