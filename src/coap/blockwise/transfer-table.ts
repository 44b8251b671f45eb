import type { ResponseMessage } from "../exchange/messages.js";
import type { BodyBuffer } from "./body-buffer.js";
import type { DropCause } from "./piecewise-server.js";

/**
 * The bodies under way of all peers, by peer and operation, within the bounds of their number and bytes. All live equally
 * long since they were kept last, so that one set in that order is their timer.
 */
export class TransferTable<P extends object, T extends Tracked<P> = Transfer<P>> {
  readonly #bounds: TransferBounds;
  readonly #isExpendable: (peer: P) => boolean;
  readonly #peers = new Map<P, Map<string, Kept<T>>>();
  readonly #byAge = new Set<Kept<T>>();
  #bytes = 0;

  /** `isExpendable`: whether the bodies of a peer make way for those of the others. */
  constructor(bounds: TransferBounds, isExpendable: (peer: P) => boolean) {
    this.#bounds = bounds;
    this.#isExpendable = isExpendable;
  }

  get size(): number {
    return this.#byAge.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  find(peer: P, key: string): T | undefined {
    return this.#peers.get(peer)?.get(key)?.transfer;
  }

  /**
   * Keeps a transfer in place of the one before of the same operation, which is gone in any case. A peer's oldest makes way
   * for its newer ones. Returns whether there is room.
   */
  keep(transfer: T, now: number): boolean {
    const { peer, key, bytes } = transfer;
    if (this.find(peer, key) === transfer) this.release(peer, key);
    else this.forget(peer, key);
    for (const oldest of this.#peers.get(peer)?.values() ?? []) {
      if ((this.#peers.get(peer)?.size ?? 0) < this.#bounds.maxTransfersPerPeer) break;
      this.#drop(oldest, "limit");
    }
    const countedBytes = bytes + key.length + ENTRY_BYTES;
    if (transfer.type === "request") this.#makeRoom(peer, countedBytes);
    if (this.#bytes + countedBytes > this.#bounds.maxBufferedBytes) return false;
    const kept: Kept<T> = { transfer, countedBytes, expiresAt: now + this.#bounds.lifetimeMs };
    let transfers = this.#peers.get(peer);
    if (transfers === undefined) {
      transfers = new Map();
      this.#peers.set(peer, transfers);
    }
    transfers.set(key, kept);
    this.#byAge.add(kept);
    this.#bytes += countedBytes;
    return true;
  }

  /** Gives a transfer up. */
  forget(peer: P, key: string): void {
    const kept = this.#peers.get(peer)?.get(key);
    if (kept !== undefined) this.#drop(kept, "replaced");
  }

  /** A transfer came to its end. */
  release(peer: P, key: string): void {
    const kept = this.#peers.get(peer)?.get(key);
    if (kept !== undefined) this.#remove(kept);
  }

  closePeer(peer: P): void {
    for (const kept of this.#peers.get(peer)?.values() ?? []) this.#drop(kept, "peer-closed");
  }

  nextTimeout(): number | undefined {
    for (const oldest of this.#byAge) return oldest.expiresAt;
    return undefined;
  }

  sweep(now: number): void {
    if (this.#byAge.size === 0) return;
    for (const kept of this.#byAge) {
      if (kept.expiresAt > now) return;
      this.#drop(kept, "expired");
    }
  }

  /** The oldest first, of responses, which a client can ask for anew, and of peers that are expendable to this one. */
  #makeRoom(peer: P, neededBytes: number): void {
    const isExpendable = this.#isExpendable(peer);
    for (const kept of this.#byAge) {
      if (this.#bytes + neededBytes <= this.#bounds.maxBufferedBytes) return;
      const { transfer } = kept;
      if (transfer.type === "response" || (!isExpendable && this.#isExpendable(transfer.peer)))
        this.#drop(kept, "limit");
    }
  }

  #drop(kept: Kept<T>, cause: DropCause): void {
    this.#remove(kept);
    kept.transfer.dropped?.(cause);
  }

  #remove(kept: Kept<T>): void {
    const { peer, key } = kept.transfer;
    const transfers = this.#peers.get(peer);
    transfers?.delete(key);
    if (transfers?.size === 0) this.#peers.delete(peer);
    this.#byAge.delete(kept);
    this.#bytes -= kept.countedBytes;
  }
}

/** What a table keeps; `dropped` is told when that ends before the body does. */
export interface Tracked<P> {
  readonly type: string;
  readonly peer: P;
  readonly key: string;
  readonly bytes: number;
  dropped?(cause: DropCause): void;
}

/** A body under way: of a request that is being put together, or of a response that is being read. */
export type Transfer<P> = RequestTransfer<P> | ResponseTransfer<P>;

export interface RequestTransfer<P> extends Tracked<P> {
  readonly type: "request";
  readonly body: BodyBuffer;
  /** Whether its first block came with If-None-Match, which later ones leave out (RFC 7959 §2.10). */
  readonly isIfNoneMatch: boolean;
}

export interface ResponseTransfer<P> extends Tracked<P> {
  readonly type: "response";
  readonly response: ResponseMessage;
}

export interface TransferBounds {
  readonly maxTransfersPerPeer: number;
  readonly maxBufferedBytes: number;
  readonly lifetimeMs: number;
}

interface Kept<T> {
  readonly transfer: T;
  /** The body's bytes and what is kept beside it. */
  readonly countedBytes: number;
  /** Absolute ms. */
  readonly expiresAt: number;
}

/** Beside a body and its key: what stands for it in the maps. */
const ENTRY_BYTES = 512;
