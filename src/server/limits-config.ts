import { duration, integer, refuse, section } from "#config/index.js";
import { DEFAULT_REGISTRATION_LIMITS, type RegistrationLimits } from "#dpe/index.js";
import { ENDPOINT_DEFAULTS, type EndpointOptions } from "#net/index.js";
import { DEFAULT_STORE_LIMITS, type StoreLimits } from "#store/index.js";
import type { z } from "zod";

/** How much a server keeps at most, whatever its devices and strangers send. Times are ms. Of each process, where several run. */
export interface LimitsConfig {
  /** Devices that are kept, ended ones included, which make way first; a new name beyond them is refused with 5.03. */
  readonly devices: number;
  /** Properties of one device. */
  readonly properties: number;
  /** DPE-2 requests that wait for one device. */
  readonly queuedRequests: number;
  readonly auditEvents: number;
  readonly auditPerSecond: number;
  /** Reports that wait for the MQTT broker; the oldest are dropped. */
  readonly outbox: number;
  /** Of registrations; what a device asks for beyond is refused with 4.00. */
  readonly minLifetime: number;
  readonly maxLifetime: number;
  /** DTLS associations and handshakes in all, and of one address. Absent: as many as devices, at least 100,000. */
  readonly sessions?: number | undefined;
  readonly sessionsPerAddress: number;
  readonly handshakes: number;
  readonly handshakesPerAddress: number;
  /** An association silent for so long makes way for a new one where there is no other room; or ends. */
  readonly staleAfter: number;
  readonly idleAfter: number;
  /** Addresses that are spoken with on plain UDP. */
  readonly plainPeers: number;
}

export const DEFAULT_LIMITS: LimitsConfig = {
  devices: DEFAULT_REGISTRATION_LIMITS.maxRegistrations,
  properties: DEFAULT_STORE_LIMITS.maxProperties,
  queuedRequests: DEFAULT_STORE_LIMITS.maxQueuedRequests,
  auditEvents: DEFAULT_STORE_LIMITS.maxAuditEvents,
  auditPerSecond: DEFAULT_STORE_LIMITS.maxAuditPerSecond,
  outbox: DEFAULT_STORE_LIMITS.maxOutbox,
  minLifetime: DEFAULT_REGISTRATION_LIMITS.minLifetimeSeconds * 1000,
  maxLifetime: DEFAULT_REGISTRATION_LIMITS.maxLifetimeSeconds * 1000,
  sessionsPerAddress: ENDPOINT_DEFAULTS.maxSessionsPerAddress,
  handshakes: ENDPOINT_DEFAULTS.maxHandshakes,
  handshakesPerAddress: ENDPOINT_DEFAULTS.maxHandshakesPerAddress,
  staleAfter: ENDPOINT_DEFAULTS.staleAfterMs,
  idleAfter: ENDPOINT_DEFAULTS.idleTimeoutMs,
  plainPeers: 10_000,
};

export function limitsSection(): z.ZodType<LimitsConfig, unknown> {
  const many = (by: keyof LimitsConfig, max = 10_000_000): z.ZodDefault<z.ZodType<number, unknown>> =>
    integer({ min: 1, max }).default(DEFAULT_LIMITS[by] ?? 1);
  return section({
    devices: many("devices"),
    properties: many("properties", 100_000),
    queuedRequests: many("queuedRequests", 1000),
    auditEvents: many("auditEvents"),
    auditPerSecond: many("auditPerSecond", 100_000),
    outbox: many("outbox"),
    minLifetime: duration({ minMs: 1000 }).default(DEFAULT_LIMITS.minLifetime),
    maxLifetime: duration({ minMs: 60_000 }).default(DEFAULT_LIMITS.maxLifetime),
    sessions: integer({ min: 1, max: 10_000_000 }).optional(),
    sessionsPerAddress: many("sessionsPerAddress"),
    handshakes: many("handshakes", 1_000_000),
    handshakesPerAddress: many("handshakesPerAddress", 1_000_000),
    staleAfter: duration({ minMs: 10_000 }).default(DEFAULT_LIMITS.staleAfter),
    idleAfter: duration({ minMs: 10_000 }).default(DEFAULT_LIMITS.idleAfter),
    plainPeers: many("plainPeers"),
  })
    .superRefine(({ minLifetime, maxLifetime }, context) => {
      if (minLifetime > maxLifetime)
        refuse(context, { problem: "minLifetime is longer than maxLifetime" }, ["minLifetime"]);
    })
    .default(DEFAULT_LIMITS);
}

/** For a store on any backend. */
export function storeLimits(limits: LimitsConfig): Partial<StoreLimits & RegistrationLimits> {
  return {
    maxRegistrations: limits.devices,
    minLifetimeSeconds: Math.ceil(limits.minLifetime / 1000),
    maxLifetimeSeconds: Math.floor(limits.maxLifetime / 1000),
    maxProperties: limits.properties,
    maxQueuedRequests: limits.queuedRequests,
    maxAuditEvents: limits.auditEvents,
    maxAuditPerSecond: limits.auditPerSecond,
    maxOutbox: limits.outbox,
  };
}

/** For the endpoint of DTLS. */
export function sessionLimits(
  limits: LimitsConfig,
): Required<
  Pick<
    EndpointOptions,
    | "maxSessions"
    | "maxSessionsPerAddress"
    | "maxHandshakes"
    | "maxHandshakesPerAddress"
    | "staleAfterMs"
    | "idleTimeoutMs"
  >
> {
  return {
    maxSessions: limits.sessions ?? Math.max(limits.devices, ENDPOINT_DEFAULTS.maxSessions),
    maxSessionsPerAddress: limits.sessionsPerAddress,
    maxHandshakes: limits.handshakes,
    maxHandshakesPerAddress: limits.handshakesPerAddress,
    staleAfterMs: limits.staleAfter,
    idleTimeoutMs: limits.idleAfter,
  };
}
