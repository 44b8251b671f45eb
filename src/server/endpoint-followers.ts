import type { SenmlRecord } from "#senml/index.js";
import type { Store } from "#store/index.js";
import { pause } from "#waiting/index.js";
import type { ObserveOptions } from "./dpe2-requests.js";
import { followFleet } from "./live-event.js";
import { EndpointChanged, type PropertyObservation } from "./property-observation.js";

/**
 * DPE-2 observations that outlive the association that they are made in. An endpoint that restarts has forgotten its
 * observers, and one that comes from another address tells them where nobody is any more: when it is heard in another
 * association, or registers, it is observed anew for whoever still listens; where another server of the store has it, by way
 * of that one. Nothing of that is stored, as who listens is gone with this process: a client of the API comes back by itself,
 * and says that it was there.
 */
export class EndpointFollowers {
  readonly #surroundings: FollowerSurroundings;
  /** What is under way for each endpoint; aborted, the endpoint is observed anew. */
  readonly #attempts = new Map<string, Set<Attempt>>();
  #count = 0;
  #fleet: Promise<() => void> | undefined;

  constructor(surroundings: FollowerSurroundings) {
    this.#surroundings = surroundings;
  }

  /** The endpoint is in another association than before, has registered, or is gone. */
  changed(endpoint: string): void {
    for (const { controller } of this.#attempts.get(endpoint) ?? []) controller.abort();
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
          const { count, error } = yield* this.#observed(endpoint, attempt, options);
          if (count > 0) isEstablished = true;
          if (attempt.signal.aborted || (error instanceof EndpointChanged && isEstablished)) continue;
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
    attempt: Attempt,
    options: ObserveOptions,
  ): AsyncGenerator<FollowStep, Observed, undefined> {
    const { signal } = attempt.controller;
    let observation: PropertyObservation | undefined;
    let count = 0;
    const cancel = (): void => observation?.cancel();
    try {
      attempt.server = await this.#surroundings.serverOf(endpoint);
      if (signal.aborted) return { count, error: undefined };
      observation = await this.#surroundings.observe(attempt.server, endpoint, { ...options, signal });
      signal.addEventListener("abort", cancel);
      count++;
      yield { type: "properties", records: observation.first };
      if (signal.aborted) return { count, error: undefined };
      for await (const records of observation) {
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

  #begin(endpoint: string, signal: AbortSignal): Attempt & { readonly signal: AbortSignal; end(): void } {
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    signal.addEventListener("abort", abort, { once: true });
    const attempts = this.#attempts.get(endpoint) ?? new Set();
    const attempt: Attempt & { readonly signal: AbortSignal; end(): void } = {
      controller,
      signal: controller.signal,
      server: undefined,
      end: () => {
        signal.removeEventListener("abort", abort);
        attempts.delete(attempt);
        if (attempts.size === 0 && this.#attempts.get(endpoint) === attempts) this.#attempts.delete(endpoint);
      },
    };
    this.#attempts.set(endpoint, attempts.add(attempt));
    return attempt;
  }

  /** While somebody listens, what other servers of the store hear matters: an endpoint there is here no more. */
  async #join(): Promise<void> {
    if (this.#count++ > 0) return;
    const { store } = this.#surroundings;
    this.#fleet = followFleet(store, ({ type, endpoint, server }) => {
      const attempts = this.#attempts.get(endpoint);
      if (type === "gone" || server === store.server || attempts === undefined) return;
      this.#surroundings.onHeardElsewhere(endpoint);
      for (const attempt of attempts) if (attempt.server !== server) attempt.controller.abort();
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
  /** The id of the server that has it. @throws DpeError DPE_UNKNOWN_REGISTRATION. */
  serverOf(endpoint: string): Promise<string>;
  /** By way of that server. */
  observe(server: string, endpoint: string, options: ObserveOptions): Promise<PropertyObservation>;
  /** Another server of the store has it now. */
  onHeardElsewhere(endpoint: string): void;
}

interface Attempt {
  readonly controller: AbortController;
  /** By way of which server it observes; undefined until that is known. */
  server: string | undefined;
}

interface Observed {
  /** States that were told. */
  readonly count: number;
  readonly error: unknown;
}

/** An endpoint that is heard is observed at once; these are for one that is there but does not answer. */
const FIRST_WAIT_MS = 1000;
const MAX_WAIT_MS = 60_000;
