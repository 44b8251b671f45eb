import { randomBytes } from "node:crypto";
import { DEFAULT_REGISTRATION_LIMITS, type RegistrationLimits } from "#dpe/index.js";
import { AuditLog } from "./audit-log.js";
import type { Backend } from "./backend.js";
import type { LmdbOptions } from "./lmdb-backend.js";
import { MemoryBackend } from "./memory-backend.js";
import { Outbox } from "./outbox.js";
import { Properties } from "./properties.js";
import type { RedisOptions } from "./redis-backend.js";
import { Registrations } from "./registrations.js";
import { QueuedRequests } from "./requests.js";
import { upgradeSchema } from "./schema.js";
import { StoredSubscribers } from "./subscribers.js";
import { type OnHealth, WatchedBackend } from "./watched-backend.js";

/**
 * The durable state of a server. Everything in it is written through one {@link Backend}, whose invariants (B1–B4) those of
 * the parts build on: registrations (R), properties (P), subscribers (S), requests (Q), audit (A), outbox (O). DTLS
 * associations are not here: they must be kept before a datagram leaves, and their keys go to no other machine, so that each
 * server has a sealed file of its own for them (`FileAssociationStore`).
 */
export class Store {
  /** Tells this server from others that share the store; a new one with each start, unless it is given. */
  readonly server: string;
  readonly registrations: Registrations;
  readonly properties: Properties;
  readonly subscribers: StoredSubscribers;
  readonly requests: QueuedRequests;
  readonly audit: AuditLog;
  readonly outbox: Outbox;
  readonly backend: Backend;

  private constructor(backend: Backend, options: StoreOptions) {
    const limits = { ...DEFAULT_STORE_LIMITS, ...options.limits };
    const maxValues =
      options.limits?.maxValues ?? (backend.kind === "memory" ? MAX_VALUES_IN_MEMORY : limits.maxValues);
    this.backend = backend;
    this.server = options.server ?? randomBytes(6).toString("hex");
    this.properties = new Properties(backend, { ...limits, maxValues });
    this.registrations = new Registrations(backend, this.properties, {
      limits: { ...DEFAULT_REGISTRATION_LIMITS, ...options.limits },
      newId: () => randomBytes(9).toString("base64url"),
      keepEndedMs: limits.maxAgeMs,
      hasOutbox: options.hasOutbox ?? false,
      maxKnownRows: limits.maxKnownRows,
    });
    this.subscribers = new StoredSubscribers(backend);
    this.requests = new QueuedRequests(backend, limits.maxQueuedRequests);
    this.audit = new AuditLog(backend, this.server, {
      maxEvents: limits.maxAuditEvents,
      maxPerSecond: limits.maxAuditPerSecond,
    });
    this.outbox = new Outbox(backend, limits.maxOutbox);
  }

  /** @throws StoreError STORE_NEWER_SCHEMA and those of opening its database. */
  static async open(where: StoreLocation, options: StoreOptions = {}): Promise<Store> {
    const { onHealth = () => undefined } = options;
    const made: { backend?: WatchedBackend } = {};
    const failed = (error: unknown): void => made.backend?.failed(error);
    const backend = await openBackend(where, {
      ...options,
      onError: failed,
      // It may have been restarted with other data, or none.
      onReconnected: () => made.backend && upgradeSchema(made.backend).catch(failed),
    });
    made.backend = new WatchedBackend(backend, onHealth);
    return Store.on(made.backend, options);
  }

  /** On a backend, which it then owns. */
  static async on(backend: Backend, options: StoreOptions = {}): Promise<Store> {
    try {
      await upgradeSchema(backend);
    } catch (error) {
      await backend.close();
      throw error;
    }
    return new Store(backend, options);
  }

  close(): Promise<void> {
    return this.backend.close();
  }
}

/** @throws StoreError STORE_IN_USE, STORE_DAMAGED, STORE_UNAVAILABLE, STORE_NOT_DURABLE. */
export async function openBackend(where: StoreLocation, options: LmdbOptions & RedisOptions = {}): Promise<Backend> {
  switch (where.type) {
    case "memory":
      return new MemoryBackend();
    // Loaded only where they are used: an agent has no use for either.
    case "lmdb": {
      const { LmdbBackend } = await import("./lmdb-backend.js");
      return new LmdbBackend(where.folder, options);
    }
    case "redis": {
      const { RedisBackend } = await import("./redis-backend.js");
      return RedisBackend.open(where.url, options);
    }
  }
}

export type StoreLocation =
  | { readonly type: "memory" }
  | { readonly type: "lmdb"; readonly folder: string }
  | { readonly type: "redis"; readonly url: string };

export interface StoreOptions extends LmdbOptions, Pick<RedisOptions, "prefix" | "dangerVolatile"> {
  readonly limits?: Partial<StoreLimits & RegistrationLimits>;
  /** Whether readings are also kept until they were forwarded. Default false. */
  readonly hasOutbox?: boolean;
  /** See {@link Store.server}. Default: random. */
  readonly server?: string;
  /** Told when the database begins to fail, and when it is well again. */
  readonly onHealth?: OnHealth;
}

export interface StoreLimits {
  /** Properties of one endpoint. */
  readonly maxProperties: number;
  /** Readings kept of one property; in memory 100 unless said. */
  readonly maxValues: number;
  /** Readings, and devices whose registration has ended, are kept as long, ms. */
  readonly maxAgeMs: number;
  /** DPE-2 requests that wait for one endpoint. */
  readonly maxQueuedRequests: number;
  readonly maxAuditEvents: number;
  readonly maxAuditPerSecond: number;
  /** Reports that wait to be forwarded. */
  readonly maxOutbox: number;
  /** Rows that are kept in memory of endpoints that report, three for one with one property, of about 800 bytes each. */
  readonly maxKnownRows: number;
}

export const DEFAULT_STORE_LIMITS: StoreLimits = {
  maxProperties: 1000,
  maxValues: 1000,
  maxAgeMs: 30 * 24 * 3_600_000,
  maxQueuedRequests: 16,
  maxAuditEvents: 10_000,
  maxAuditPerSecond: 100,
  maxOutbox: 100_000,
  maxKnownRows: 32_768,
};

const MAX_VALUES_IN_MEMORY = 100;
