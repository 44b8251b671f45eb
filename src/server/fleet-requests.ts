import { randomBytes } from "node:crypto";
import { DpeError, type DpeErrorCode, type Registration } from "#dpe/index.js";
import { messageOf } from "#errors/index.js";
import type { SenmlRecord } from "#senml/index.js";
import { decodeRow, encodeRow, type QueuedRequest, type Store } from "#store/index.js";

/**
 * DPE-2 requests to any endpoint of the fleet: over this server's own association, by way of the server of the same store
 * that heard the endpoint last, or, to one that sleeps (queue mode), when it is heard again.
 */
export class FleetRequests {
  readonly #surroundings: FleetSurroundings;
  readonly #pending = new Map<string, { resolve(reply: Reply): void }>();
  /** Endpoints to which queued requests are being sent. */
  readonly #delivering = new Set<string>();
  #stop: () => void = () => undefined;

  constructor(surroundings: FleetSurroundings) {
    this.#surroundings = surroundings;
  }

  /** Begins to take requests of other servers. */
  async start(): Promise<void> {
    const { backend, server } = this.#surroundings.store;
    this.#stop = await backend.subscribe(channelOf(server), (message) => this.#receive(decodeRow<Message>(message)));
  }

  close(): void {
    this.#stop();
  }

  /**
   * The properties of these names, all where there is none, or the request that waits for the endpoint to be heard.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_NOT_ALLOWED, DPE_NOT_REACHABLE, DPE_BAD_REQUEST for an error response,
   * DPE_TOO_MANY_REQUESTS; what the local query throws.
   */
  async ask(endpoint: string, names: readonly string[], now: number, signal?: AbortSignal): Promise<FleetAnswer> {
    const { store } = this.#surroundings;
    const device = await store.registrations.device(endpoint, now);
    if (device?.registration === undefined)
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", `no endpoint ${endpoint} is registered`);
    const { heard, registration } = device;
    // What would be refused when the endpoint wakes does not wait for that.
    this.#surroundings.check(registration, names);
    const sleeps = registration.isQueueMode && (heard === undefined || now - heard.at > AWAKE_MS);
    if (!sleeps) {
      try {
        const isElsewhere =
          !this.#surroundings.isHere(endpoint) && heard !== undefined && heard.server !== store.server;
        const records = isElsewhere
          ? await this.#askServer(heard.server, endpoint, names)
          : await this.#surroundings.query(endpoint, names, signal);
        return { type: "answered", records };
      } catch (error) {
        const isAway = error instanceof DpeError && error.code === "DPE_NOT_REACHABLE";
        if (!isAway || !registration.isQueueMode) throw error;
      }
    }
    const id = `${now.toString(36).padStart(10, "0")}-${randomBytes(4).toString("hex")}`;
    const request = await store.requests.add(endpoint, id, names, now, QUEUED_LIFETIME_MS);
    if (request !== undefined) return { type: "queued", request };
    throw new DpeError("DPE_TOO_MANY_REQUESTS", `too many requests wait for ${endpoint} already`);
  }

  /** Sends what waits for an endpoint that was just heard here. */
  async deliver(endpoint: string, now: number): Promise<void> {
    if (this.#delivering.has(endpoint)) return;
    this.#delivering.add(endpoint);
    const { requests } = this.#surroundings.store;
    try {
      for (
        let next = await requests.claim(endpoint, now);
        next !== undefined;
        next = await requests.claim(endpoint, now)
      ) {
        try {
          await requests.settle(next, {
            state: "answered",
            records: await this.#surroundings.query(endpoint, next.names),
          });
        } catch (error) {
          const isAway = error instanceof DpeError && error.code === "DPE_NOT_REACHABLE";
          await requests.settle(next, isAway ? { state: "waiting" } : { state: "failed", error: messageOf(error) });
          if (isAway) return;
        }
      }
    } finally {
      this.#delivering.delete(endpoint);
    }
  }

  async #askServer(server: string, endpoint: string, names: readonly string[]): Promise<readonly SenmlRecord[]> {
    const { store } = this.#surroundings;
    const id = randomBytes(9).toString("base64url");
    let timer: NodeJS.Timeout | undefined;
    const reply = await new Promise<Reply>((resolve) => {
      this.#pending.set(id, { resolve });
      timer = setTimeout(resolve, OTHER_SERVER_TIMEOUT_MS, {
        error: { code: "DPE_NOT_REACHABLE", message: `the server that ${endpoint} is connected to does not answer` },
      });
      const message: Message = { type: "query", id, from: store.server, endpoint, names };
      store.backend.publish(channelOf(server), () => encodeRow(message));
    });
    clearTimeout(timer);
    this.#pending.delete(id);
    if ("records" in reply) return reply.records;
    throw new DpeError(reply.error.code, reply.error.message);
  }

  #receive(message: Message): void {
    if (message.type === "reply") this.#pending.get(message.id)?.resolve(message.reply);
    else void this.#answer(message);
  }

  async #answer({ id, from, endpoint, names }: Extract<Message, { readonly type: "query" }>): Promise<void> {
    const { backend } = this.#surroundings.store;
    let reply: Reply;
    try {
      reply = {
        records: await this.#surroundings.query(endpoint, names, AbortSignal.timeout(OTHER_SERVER_TIMEOUT_MS)),
      };
    } catch (error) {
      const code = error instanceof DpeError ? error.code : "DPE_NOT_REACHABLE";
      reply = { error: { code, message: messageOf(error) } };
    }
    const message: Message = { type: "reply", id, reply };
    backend.publish(channelOf(from), () => encodeRow(message));
  }
}

export interface FleetSurroundings {
  readonly store: Store;
  /** Whether the endpoint has an open association with this server. */
  isHere(endpoint: string): boolean;
  /** @throws DpeError DPE_NOT_ALLOWED where the endpoint may not be asked for these, wherever it is. */
  check(registration: Registration, names: readonly string[]): void;
  query(endpoint: string, names: readonly string[], signal?: AbortSignal): Promise<readonly SenmlRecord[]>;
}

export type FleetAnswer =
  | { readonly type: "answered"; readonly records: readonly SenmlRecord[] }
  | { readonly type: "queued"; readonly request: QueuedRequest };

type Reply =
  | { readonly records: readonly SenmlRecord[] }
  | { readonly error: { readonly code: DpeErrorCode; readonly message: string } };

type Message =
  | {
      readonly type: "query";
      readonly id: string;
      readonly from: string;
      readonly endpoint: string;
      readonly names: readonly string[];
    }
  | { readonly type: "reply"; readonly id: string; readonly reply: Reply };

function channelOf(server: string): string {
  return `server:${server}`;
}

/** RFC 7252 §4.8.2, MAX_TRANSMIT_WAIT: so long a device in queue mode listens after it was heard. */
const AWAKE_MS = 93_000;
/** A little more than a request over an association may take on a good path; the asker is waiting. */
const OTHER_SERVER_TIMEOUT_MS = 10_000;
const QUEUED_LIFETIME_MS = 24 * 3_600_000;
