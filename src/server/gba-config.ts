import { duration, host, integer, type Secret, secret, section, text } from "#config/index.js";
import { DIGEST_HASHES } from "#digest/index.js";
import { DEFAULT_GBA_LIMITS, GbaCredentials } from "#security/index.js";
import type { z } from "zod";

/** The section `gba` of a server: where Ks_NAF is asked for. */
export interface GbaConfig {
  readonly resolver: string;
  readonly token?: Secret | undefined;
  readonly naf: string;
  readonly timeout: number;
  readonly maxLookups: number;
  readonly maxWaiting: number;
  readonly maxCredentials: number;
  readonly maxLifetime: number;
  readonly maxUnknown: number;
  readonly unknownLifetime: number;
}

/** Its schema. */
export function gbaSection(): z.ZodType<GbaConfig, unknown> {
  return section({
    resolver: text().refine(
      isUsableUrl,
      "an https:// URL, or http:// on this machine alone: keys come back from there",
    ),
    token: secret().optional(),
    naf: host(),
    timeout: duration({ minMs: 100, maxMs: 60_000 }).default(DEFAULT_GBA_LIMITS.timeoutMs),
    maxLookups: integer({ min: 1 }).default(DEFAULT_GBA_LIMITS.maxLookups),
    maxWaiting: integer({ min: 1 }).default(DEFAULT_GBA_LIMITS.maxWaiting),
    maxCredentials: integer({ min: 1 }).default(DEFAULT_GBA_LIMITS.maxCredentials),
    maxLifetime: duration({ minMs: 1000 }).default(DEFAULT_GBA_LIMITS.maxLifetimeMs),
    maxUnknown: integer({ min: 1 }).default(DEFAULT_GBA_LIMITS.maxUnknown),
    unknownLifetime: duration({ minMs: 1000 }).default(DEFAULT_GBA_LIMITS.unknownLifetimeMs),
  });
}

export function gbaCredentials(config: GbaConfig): GbaCredentials {
  const { resolver, token, naf, timeout, maxLookups, maxWaiting, maxCredentials, maxUnknown } = config;
  return new GbaCredentials({
    resolver,
    token: token?.text(),
    naf,
    hashes: DIGEST_HASHES,
    timeoutMs: timeout,
    maxLookups,
    maxWaiting,
    maxCredentials,
    maxLifetimeMs: config.maxLifetime,
    maxUnknown,
    unknownLifetimeMs: config.unknownLifetime,
  });
}

function isUsableUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, hostname, username, password } = new URL(value);
  if (username !== "" || password !== "") return false;
  const isLocal = hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
  return protocol === "https:" || (protocol === "http:" && isLocal);
}
