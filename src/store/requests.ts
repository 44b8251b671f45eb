import type { SenmlRecord } from "#senml/index.js";
import type { Backend } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";

/**
 * DPE-2 requests to endpoints that sleep (queue mode), until they are heard. `queue`: partition endpoint, key id.
 *
 * Invariants:
 * Q1. An endpoint has at most `maxPerEndpoint` requests, answered ones included: answered and expired ones make way for a
 *     new one, waiting ones never do.
 * Q2. A request is claimed by one server before it is sent, so that two do not send it. A server that ends with a claimed
 *     request leaves it to expire.
 */
export class QueuedRequests {
  readonly #backend: Backend;
  readonly #maxPerEndpoint: number;

  constructor(backend: Backend, maxPerEndpoint: number) {
    this.#backend = backend;
    this.#maxPerEndpoint = maxPerEndpoint;
  }

  /** Undefined when the endpoint has too many that wait. `id` sorts in the order of adding. */
  add(
    endpoint: string,
    id: string,
    names: readonly string[],
    now: number,
    lifetimeMs: number,
  ): Promise<QueuedRequest | undefined> {
    return commitUntil(this.#backend, async () => {
      const entries = await this.#backend.range("queue", endpoint, { limit: Infinity });
      const settled = entries.filter(({ value }) => {
        const { state, expiresAt } = decodeRow<QueuedRequest>(value);
        return expiresAt <= now || (state !== "waiting" && state !== "sent");
      });
      const excess = entries.length + 1 - this.#maxPerEndpoint;
      if (excess > settled.length) return { change: undefined, result: undefined };
      const request: QueuedRequest = {
        id,
        endpoint,
        names,
        createdAt: now,
        expiresAt: now + lifetimeMs,
        state: "waiting",
      };
      const deletes = settled
        .slice(0, Math.max(0, excess))
        .map(({ key }) => ({ space: "queue", partition: endpoint, key }) as const);
      const place = { space: "queue", partition: endpoint, key: id } as const;
      return {
        change: { checks: [{ ...place, value: undefined }], deletes, sets: [{ ...place, value: encodeRow(request) }] },
        result: request,
      };
    });
  }

  /** In the order of adding. An expired one that was not answered says so. */
  async list(endpoint: string, now: number): Promise<readonly QueuedRequest[]> {
    const entries = await this.#backend.range("queue", endpoint, { limit: Infinity });
    return entries.map(({ value }) => {
      const request = decodeRow<QueuedRequest>(value);
      const isOpen = request.state === "waiting" || request.state === "sent";
      return isOpen && request.expiresAt <= now ? { ...request, state: "expired" } : request;
    });
  }

  /** Claims the oldest request that waits. */
  claim(endpoint: string, now: number): Promise<QueuedRequest | undefined> {
    return commitUntil(this.#backend, async () => {
      const entries = await this.#backend.range("queue", endpoint, { limit: Infinity });
      for (const { key, value } of entries) {
        const request = decodeRow<QueuedRequest>(value);
        if (request.state !== "waiting" || request.expiresAt <= now) continue;
        const claimed: QueuedRequest = { ...request, state: "sent" };
        const place = { space: "queue", partition: endpoint, key } as const;
        const change = { checks: [{ ...place, value }], sets: [{ ...place, value: encodeRow(claimed) }] };
        return { change, result: claimed };
      }
      return { change: undefined, result: undefined };
    });
  }

  /** Notes how a claimed request ended, or that it waits again. */
  async settle(request: QueuedRequest, outcome: RequestOutcome): Promise<void> {
    const place = { space: "queue", partition: request.endpoint, key: request.id } as const;
    await this.#backend.commit({
      checks: [{ ...place, value: encodeRow(request) }],
      sets: [{ ...place, value: encodeRow({ ...request, ...outcome }) }],
    });
  }
}

export interface QueuedRequest {
  readonly id: string;
  readonly endpoint: string;
  /** Properties asked for; none: all. */
  readonly names: readonly string[];
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly state: "waiting" | "sent" | "answered" | "failed" | "expired";
  readonly records?: readonly SenmlRecord[];
  readonly error?: string;
}

export type RequestOutcome =
  | { readonly state: "answered"; readonly records: readonly SenmlRecord[] }
  | { readonly state: "failed"; readonly error: string }
  | { readonly state: "waiting" };
