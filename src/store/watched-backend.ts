import type { Backend, Change, Entry, Message, Place, PlacedEntry, Range, Space } from "./backend.js";
import { StoreError } from "./errors.js";

/**
 * A backend, and whether it does what it is asked to: told when that changes, or its cause, not with each of the requests that
 * fail meanwhile. Where a write failed it is well again when one succeeds, and nothing has failed for {@link WELL_AFTER_MS}.
 */
export class WatchedBackend implements Backend {
  readonly kind: Backend["kind"];
  readonly #backend: Backend;
  readonly #onHealth: OnHealth;
  #fault: Fault | undefined;

  constructor(backend: Backend, onHealth: OnHealth) {
    this.kind = backend.kind;
    this.#backend = backend;
    this.#onHealth = onHealth;
  }

  /** Also by whoever hears of a fault that no request has met yet. */
  failed(error: unknown, isOfWriting = false): void {
    const now = performance.now();
    const fault = (this.#fault ??= { sinceMs: now, lastMs: now, failures: 0, isOfWriting, causes: new Set() });
    fault.lastMs = now;
    fault.failures += 1;
    fault.isOfWriting ||= isOfWriting;
    const cause = String(error);
    if (fault.causes.has(cause) || fault.causes.size >= MAX_CAUSES) return;
    fault.causes.add(cause);
    this.#onHealth({ isWell: false, error });
  }

  get(places: readonly Place[]): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#watched(this.#backend.get(places), false);
  }

  range(space: Space, partition: string, range: Range): Promise<readonly Entry[]> {
    return this.#watched(this.#backend.range(space, partition, range), false);
  }

  count(space: Space): Promise<number> {
    return this.#watched(this.#backend.count(space), false);
  }

  scan(space: Space): AsyncIterable<PlacedEntry> {
    return this.#backend.scan(space);
  }

  commit(change: Change): Promise<boolean> {
    return this.#watched(this.#backend.commit(change), true);
  }

  publish(channel: string, message: Message): void {
    this.#backend.publish(channel, message);
  }

  subscribe(channel: string, listener: (message: Uint8Array) => void): Promise<() => void> {
    return this.#backend.subscribe(channel, listener);
  }

  close(): Promise<void> {
    return this.#backend.close();
  }

  #watched<Result>(outcome: Promise<Result>, isWriting: boolean): Promise<Result> {
    outcome.then(this.#fault === undefined ? undefined : () => this.#worked(isWriting), (error: unknown) => {
      if (error instanceof StoreError) this.failed(error, isWriting);
    });
    return outcome;
  }

  #worked(isWriting: boolean): void {
    const fault = this.#fault;
    const now = performance.now();
    if (fault === undefined || (fault.isOfWriting && !isWriting) || now - fault.lastMs < WELL_AFTER_MS) return;
    this.#fault = undefined;
    this.#onHealth({ isWell: true, failures: fault.failures, afterMs: now - fault.sinceMs });
  }
}

interface Fault {
  readonly sinceMs: number;
  lastMs: number;
  failures: number;
  isOfWriting: boolean;
  /** What was told. */
  readonly causes: Set<string>;
}

export type OnHealth = (health: StoreHealth) => void;

export type StoreHealth =
  | { readonly isWell: false; readonly error: unknown }
  /** How much failed, and for how long. */
  | { readonly isWell: true; readonly failures: number; readonly afterMs: number };

const WELL_AFTER_MS = 5000;
/** Told of one fault. */
const MAX_CAUSES = 32;
