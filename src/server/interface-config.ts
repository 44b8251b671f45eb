import { duration, listOf, oneOf, section } from "#config/index.js";
import { DIGEST_ALGORITHMS, DIGEST_QOPS, type DigestAlgorithm, type DigestQop } from "#digest/index.js";
import {
  DEFAULT_FAILURE_LIMITS,
  type DigestScope,
  type FailureLimitOptions,
  type GuardDigest,
} from "#security/index.js";
import * as z from "zod";

/** Digest at one interface, as a configuration has it. */
export interface DigestConfig {
  /** Best first. MD5 and MD5-sess only where they are written here. */
  readonly algorithms: readonly DigestAlgorithm[];
  readonly qop: readonly DigestQop[];
  /** Whether a success holds for one message, or for the DTLS association. */
  readonly scope: DigestScope;
  /** Clients may hash their name (RFC 7616 §3.4.4). */
  readonly userhash: boolean;
  /** Accept answers without qop too (RFC 2617 §3.2.2.1). */
  readonly dangerAllowNoQop: boolean;
  /** Back-off after failures; `refill` is the time until one more is allowed, ms. */
  readonly failures: {
    readonly perSubscriber: { readonly burst: number; readonly refill: number };
    readonly perAddress: { readonly burst: number; readonly refill: number };
    readonly maxEntries: number;
  };
}

/** The section `digest` of an interface. */
export function digestSection(): z.ZodType<DigestConfig, unknown> {
  return section({
    algorithms: listOf(oneOf(...DIGEST_ALGORITHMS), { minItems: 1 }).default([...DEFAULT_DIGEST.algorithms]),
    qop: listOf(oneOf(...DIGEST_QOPS), { minItems: 1 }).default([...DEFAULT_DIGEST.qop]),
    scope: oneOf("request", "association").default(DEFAULT_DIGEST.scope),
    userhash: z.boolean().default(DEFAULT_DIGEST.userhash),
    dangerAllowNoQop: z.boolean().default(DEFAULT_DIGEST.dangerAllowNoQop),
    failures: section({
      perSubscriber: bucket(DEFAULT_DIGEST.failures.perSubscriber),
      perAddress: bucket(DEFAULT_DIGEST.failures.perAddress),
      maxEntries: z.int().min(100).max(10_000_000).default(DEFAULT_DIGEST.failures.maxEntries),
    }).default(DEFAULT_DIGEST.failures),
  }).default({ ...DEFAULT_DIGEST, algorithms: [...DEFAULT_DIGEST.algorithms], qop: [...DEFAULT_DIGEST.qop] });
}

/** What a guard needs of it. */
export function guardDigest(realm: string, config: DigestConfig): GuardDigest {
  const { algorithms, qop: qops, scope, userhash, dangerAllowNoQop, failures } = config;
  const limits: Partial<FailureLimitOptions> = {
    burstPerSubscriber: failures.perSubscriber.burst,
    refillPerSubscriberMs: failures.perSubscriber.refill,
    burstPerAddress: failures.perAddress.burst,
    refillPerAddressMs: failures.perAddress.refill,
    maxEntries: failures.maxEntries,
  };
  return { realm, algorithms, qops, scope, userhash, dangerAllowNoQop, failures: limits };
}

function bucket(defaults: { readonly burst: number; readonly refill: number }) {
  return section({
    burst: z.int().min(1).max(1_000_000).default(defaults.burst),
    refill: duration({ minMs: 1 }).default(defaults.refill),
  }).default(defaults);
}

export const DEFAULT_DIGEST: DigestConfig = {
  algorithms: ["SHA-256"],
  qop: ["auth-int", "auth"],
  scope: "association",
  userhash: false,
  dangerAllowNoQop: false,
  failures: {
    perSubscriber: {
      burst: DEFAULT_FAILURE_LIMITS.burstPerSubscriber,
      refill: DEFAULT_FAILURE_LIMITS.refillPerSubscriberMs,
    },
    perAddress: { burst: DEFAULT_FAILURE_LIMITS.burstPerAddress, refill: DEFAULT_FAILURE_LIMITS.refillPerAddressMs },
    maxEntries: DEFAULT_FAILURE_LIMITS.maxEntries,
  },
};
