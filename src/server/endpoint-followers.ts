import type { Observation } from "#net/index.js";
import type { SenmlRecord } from "#senml/index.js";
import type { Store } from "#store/index.js";
import { type ObserveOptions, recordsOf } from "./dpe2-requests.js";
import { followFleet } from "./live-event.js";

/**
 * DPE-2 observations that outlive the association that they are made in. An endpoint that restarts has forgotten its
 * observers, and one that comes from another address tells them where nobody is any more: when it is heard in another
 * association, or registers, it is observed anew for whoever still listens. Nothing of that is stored, as who listens is gone
 * with this process: a client of the API comes back by itself, and says that it was there.
 */
export class EndpointFollowers {
  readonly #surroundings: FollowerSurroundings;
  /** What is under way for each endpoint; aborted, the endpoint is observed anew. */
  readonly #attempts = new Map<string, Set<AbortController>>();
  #count = 0;
  #fleet: Promise<() => void> | undefined;

  constructor(surroundings: FollowerSurroundings) {
    this.#surroundings = surroundings;
  }

  /** The endpoint is in another association than before, has registered, or is gone. */
  changed(endpoint: string): void {
    for (const attempt of this.#attempts.get(endpoint) ?? []) attempt.abort();
  }

  /** @throws what the first observation failed with, unless `isResumed`. */
  async *follow(endpoint: string, options: FollowOptions): AsyncGenerator<FollowStep, void, undefined> {
    const { signal, isResumed = false } = options;
    let isEstablished = isResumed;
    let waitMs = FIRST_WAIT_MS;
    await this.#join();
    try {
      while (!signal.aborted) {
        const attempt = this.#begin(endpoint, signal);
        try {
          const { count, error } = yield* this.#observed(endpoint, { ...options, signal: attempt.signal });
          if (count > 0) isEstablished = true;
          if (attempt.signal.aborted) continue;
          if (!isEstablished) throw error;
          // One that tells nothing but its first state is not asked again and again.
          if (count > 1) waitMs = FIRST_WAIT_MS;
          const message = error instanceof Error ? error.message : "the device ended the observation";
          yield { type: "waiting", message };
          await pause(waitMs, attempt.signal);
          waitMs = attempt.signal.aborted ? FIRST_WAIT_MS : Math.min(2 * waitMs, MAX_WAIT_MS);
        } finally {
          attempt.end();
        }
      }
    } finally {
      await this.#leave();
    }
  }

  async *#observed(
    endpoint: string,
    options: ObserveOptions & { readonly signal: AbortSignal },
  ): AsyncGenerator<FollowStep, Observed, undefined> {
    let observation: Observation | undefined;
    let count = 0;
    const cancel = (): void => observation?.cancel();
    try {
      observation = await this.#surroundings.observe(endpoint, options);
      options.signal.addEventListener("abort", cancel);
      const first = recordsOf(observation.first);
      count++;
      yield { type: "properties", records: first };
      if (options.signal.aborted) return { count, error: undefined };
      for await (const notification of observation) {
        const records = recordsOf(notification);
        count++;
        yield { type: "properties", records };
      }
      return { count, error: undefined };
    } catch (error) {
      return { count, error };
    } finally {
      cancel();
    }
  }

  #begin(endpoint: string, signal: AbortSignal): { readonly signal: AbortSignal; end(): void } {
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    signal.addEventListener("abort", abort, { once: true });
    const attempts = this.#attempts.get(endpoint) ?? new Set();
    this.#attempts.set(endpoint, attempts.add(controller));
    const end = (): void => {
      signal.removeEventListener("abort", abort);
      attempts.delete(controller);
      if (attempts.size === 0 && this.#attempts.get(endpoint) === attempts) this.#attempts.delete(endpoint);
    };
    return { signal: controller.signal, end };
  }

  /** While somebody listens, what other servers of the store hear matters: an endpoint there is here no more. */
  async #join(): Promise<void> {
    if (this.#count++ > 0) return;
    const { store } = this.#surroundings;
    this.#fleet = followFleet(store, ({ type, endpoint, server }) => {
      if (type === "gone" || server === store.server || !this.#attempts.has(endpoint)) return;
      this.#surroundings.onHeardElsewhere(endpoint);
      this.changed(endpoint);
    });
    await this.#fleet;
  }

  async #leave(): Promise<void> {
    if (--this.#count > 0) return;
    const fleet = this.#fleet;
    this.#fleet = undefined;
    (await fleet)?.();
  }
}

export interface FollowOptions extends ObserveOptions {
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Default false. true: whoever listens did so before, and waits for an endpoint that is not there. */
  readonly isResumed?: boolean;
}

/** What is told to a follower: properties, or why there are none for now. */
export type FollowStep =
  | { readonly type: "properties"; readonly records: readonly SenmlRecord[] }
  | { readonly type: "waiting"; readonly message: string };

export interface FollowerSurroundings {
  readonly store: Store;
  observe(endpoint: string, options: ObserveOptions): Promise<Observation>;
  /** Another server of the store has it now. */
  onHeardElsewhere(endpoint: string): void;
}

interface Observed {
  /** States that were told. */
  readonly count: number;
  readonly error: unknown;
}

/** Until the time is over or the signal is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}

/** An endpoint that is heard is observed at once; these are for one that is there but does not answer. */
const FIRST_WAIT_MS = 1000;
const MAX_WAIT_MS = 60_000;
