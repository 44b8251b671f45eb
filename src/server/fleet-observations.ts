import { randomBytes } from "node:crypto";
import { DpeError, type DpeErrorCode } from "#dpe/index.js";
import { messageOf } from "#errors/index.js";
import type { SenmlRecord } from "#senml/index.js";
import { decodeRow, encodeRow, type Store } from "#store/index.js";
import type { ObserveOptions } from "./dpe2-requests.js";
import { EndpointChanged, type PropertyObservation } from "./property-observation.js";

/**
 * Observations of endpoints that another server of the same store has: that one observes, and hands on each state.
 *
 * | asker | server that has the endpoint |
 * |---|---|
 * | observe → | |
 * | | ← state, for the first and each newer one |
 * | keep, now and then → | ← kept, with the number of states so far |
 * | cancel → | ← ended, where it ends by itself |
 *
 * A message between servers may be lost. The asker counts the states, and ends an observation of which it misses one, or of
 * which it hears nothing for a while; the other side ends one that is not kept.
 */
export class FleetObservations {
  readonly #surroundings: FleetObservationsSurroundings;
  readonly #times: FleetObservationTimes;
  /** Ours at other servers, by id. */
  readonly #asked = new Map<string, AskedObservation>();
  /** Those of other servers here, by server and id. */
  readonly #served = new Map<string, ServedObservation>();
  #sweeper: NodeJS.Timeout | undefined;
  #stop: () => void = () => undefined;

  constructor(surroundings: FleetObservationsSurroundings, times: Partial<FleetObservationTimes> = {}) {
    this.#surroundings = surroundings;
    this.#times = { ...DEFAULT_TIMES, ...times };
  }

  /** Begins to take messages of other servers. */
  async start(): Promise<void> {
    const { backend, server } = this.#surroundings.store;
    this.#stop = await backend.subscribe(channelOf(server), (message) => this.#receive(decodeRow<Message>(message)));
    this.#sweeper = setInterval(() => this.#sweep(), this.#times.keepMs);
  }

  close(): void {
    clearInterval(this.#sweeper);
    this.#stop();
    for (const asked of this.#asked.values()) asked.cancel();
    for (const served of this.#served.values()) served.controller.abort();
  }

  /** The endpoint is in another association than before, has registered, or is gone: askers are to ask anew. */
  changed(endpoint: string): void {
    for (const served of this.#served.values()) {
      if (served.endpoint !== endpoint) continue;
      this.#send(served.from, { type: "ended", id: served.id, isChanged: true });
      served.controller.abort();
    }
  }

  /** @throws DpeError as the other server's observation does; DPE_NOT_REACHABLE where it does not answer. */
  async observe(server: string, endpoint: string, options: ObserveOptions): Promise<PropertyObservation> {
    const { name, conditions, signal } = options;
    const id = randomBytes(9).toString("base64url");
    const from = this.#surroundings.store.server;
    const asked = new AskedObservation(server, () => {
      if (this.#asked.delete(id)) this.#send(server, { type: "cancel", id, from });
    });
    this.#asked.set(id, asked);
    const cancel = (): void => asked.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    const timer = setTimeout(() => asked.end(unanswered(endpoint)), this.#times.answerMs);
    const what = {
      endpoint,
      ...(name === undefined ? {} : { name }),
      ...(conditions === undefined ? {} : { conditions }),
    };
    this.#send(server, { type: "observe", id, from, ...what });
    try {
      if (signal?.aborted === true) asked.cancel();
      const first = await asked.next();
      if (first === undefined) throw new DpeError("DPE_NOT_REACHABLE", `${endpoint}: no longer wanted`);
      return asked.observation(first);
    } catch (error) {
      asked.cancel();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
    }
  }

  #receive(message: Message): void {
    switch (message.type) {
      case "observe":
        void this.#serve(message);
        return;
      case "keep":
      case "cancel": {
        const served = this.#served.get(`${message.from} ${message.id}`);
        if (message.type === "cancel") {
          served?.controller.abort();
        } else if (served === undefined) {
          this.#send(message.from, { type: "ended", id: message.id, isChanged: true });
        } else {
          served.keptAt = performance.now();
          this.#send(message.from, { type: "kept", id: message.id, count: served.count });
        }
        return;
      }
      case "state":
        this.#asked.get(message.id)?.push(message.records);
        return;
      case "kept":
        this.#asked.get(message.id)?.kept(message.count);
        return;
      case "ended": {
        const { id, isChanged = false, error } = message;
        const why = error === undefined ? undefined : new DpeError(error.code, error.message);
        this.#asked.get(id)?.end(isChanged ? new EndpointChanged() : why);
        this.#asked.delete(id);
        return;
      }
    }
  }

  async #serve(message: Extract<Message, { readonly type: "observe" }>): Promise<void> {
    const { id, from, endpoint, name, conditions } = message;
    const key = `${from} ${id}`;
    if (this.#served.size >= MAX_SERVED) {
      const error = {
        code: "DPE_TOO_MANY_REQUESTS",
        message: `${MAX_SERVED} observations are handed on already`,
      } as const;
      this.#send(from, { type: "ended", id, error });
      return;
    }
    const controller = new AbortController();
    const { signal } = controller;
    const served: ServedObservation = { id, from, endpoint, controller, count: 0, keptAt: performance.now() };
    this.#served.set(key, served);
    const tell = (records: readonly SenmlRecord[]): void => {
      served.count++;
      this.#send(from, { type: "state", id, records });
    };
    let observation: PropertyObservation | undefined;
    const cancel = (): void => observation?.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    try {
      const what = {
        ...(name === undefined ? {} : { name }),
        ...(conditions === undefined ? {} : { conditions }),
        signal,
      };
      observation = await this.#surroundings.observe(endpoint, what);
      if (signal.aborted) return;
      tell(observation.first);
      for await (const records of observation) tell(records);
      if (!signal.aborted) this.#send(from, { type: "ended", id });
    } catch (error) {
      if (signal.aborted) return;
      const code = error instanceof DpeError ? error.code : "DPE_NOT_REACHABLE";
      const said = messageOf(error);
      this.#send(from, { type: "ended", id, error: { code, message: said } });
    } finally {
      observation?.cancel();
      this.#served.delete(key);
    }
  }

  #sweep(): void {
    const now = performance.now();
    for (const served of this.#served.values())
      if (now - served.keptAt > this.#times.leaseMs) served.controller.abort();
    for (const [id, asked] of this.#asked) {
      if (now - asked.heardAt > this.#times.leaseMs) {
        asked.end(new DpeError("DPE_NOT_REACHABLE", "the server that the endpoint is connected to is silent"));
        asked.cancel();
      } else {
        this.#send(asked.server, { type: "keep", id, from: this.#surroundings.store.server });
      }
    }
  }

  #send(server: string, message: Message): void {
    this.#surroundings.store.backend.publish(channelOf(server), () => encodeRow(message));
  }
}

/** Of an observation of ours at another server: states wait here until they are taken, the newest alone. */
class AskedObservation {
  readonly server: string;
  heardAt: number = performance.now();
  readonly #onCancel: () => void;
  #count = 0;
  #newest: readonly SenmlRecord[] | undefined;
  #end: { readonly error: Error | undefined } | undefined;
  #wake: () => void = () => undefined;

  constructor(server: string, onCancel: () => void) {
    this.server = server;
    this.#onCancel = onCancel;
  }

  push(records: readonly SenmlRecord[]): void {
    this.heardAt = performance.now();
    this.#count++;
    this.#newest = records;
    this.#wake();
  }

  /** Messages between two servers come in order, so that by now as many states have come as were sent. */
  kept(count: number): void {
    this.heardAt = performance.now();
    if (count === this.#count) return;
    this.end(new EndpointChanged());
    this.cancel();
  }

  end(error: Error | undefined): void {
    this.#end ??= { error };
    this.#wake();
  }

  cancel(): void {
    this.#onCancel();
    this.end(undefined);
  }

  /** Undefined: it is over. @throws what ended it. */
  async next(): Promise<readonly SenmlRecord[] | undefined> {
    while (this.#newest === undefined && this.#end === undefined)
      await new Promise<void>((resolve) => (this.#wake = resolve));
    const records = this.#newest;
    this.#newest = undefined;
    if (records === undefined && this.#end?.error !== undefined) throw this.#end.error;
    return records;
  }

  observation(first: readonly SenmlRecord[]): PropertyObservation {
    const next = (): Promise<readonly SenmlRecord[] | undefined> => this.next();
    return {
      first,
      cancel: () => this.cancel(),
      [Symbol.asyncIterator]: async function* (): AsyncGenerator<readonly SenmlRecord[], void, undefined> {
        for (let records = await next(); records !== undefined; records = await next()) yield records;
      },
    };
  }
}

export interface FleetObservationsSurroundings {
  readonly store: { readonly server: string; readonly backend: Pick<Store["backend"], "publish" | "subscribe"> };
  /** Observes an endpoint that this server has. */
  observe(endpoint: string, options: ObserveOptions): Promise<PropertyObservation>;
}

export interface FleetObservationTimes {
  /** Default 15,000 ms: how often the other server is asked whether it still observes. */
  readonly keepMs: number;
  /** Default 50,000 ms: after so long without a word, either side ends it. A multiple of `keepMs`, as words may be lost. */
  readonly leaseMs: number;
  /** Default 10,000 ms: for the first state. */
  readonly answerMs: number;
}

interface ServedObservation {
  readonly id: string;
  readonly from: string;
  readonly endpoint: string;
  readonly controller: AbortController;
  /** States that were sent. */
  count: number;
  keptAt: number;
}

type Message =
  | {
      readonly type: "observe";
      readonly id: string;
      readonly from: string;
      readonly endpoint: string;
      readonly name?: string;
      readonly conditions?: readonly string[];
    }
  | { readonly type: "keep" | "cancel"; readonly id: string; readonly from: string }
  | { readonly type: "state"; readonly id: string; readonly records: readonly SenmlRecord[] }
  | { readonly type: "kept"; readonly id: string; readonly count: number }
  | {
      readonly type: "ended";
      readonly id: string;
      /** It is to be observed anew at once. */
      readonly isChanged?: boolean;
      readonly error?: { readonly code: DpeErrorCode; readonly message: string };
    };

function channelOf(server: string): string {
  return `observations:${server}`;
}

function unanswered(endpoint: string): DpeError {
  return new DpeError("DPE_NOT_REACHABLE", `the server that ${endpoint} is connected to does not answer`);
}

const DEFAULT_TIMES: FleetObservationTimes = { keepMs: 15_000, leaseMs: 50_000, answerMs: 10_000 };
/** Of all other servers together. */
const MAX_SERVED = 10_000;
