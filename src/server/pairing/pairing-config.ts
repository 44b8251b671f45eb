import { duration, integer, oneOf, path, type Secret, secretFile, section } from "#config/index.js";
import type { PairingKind } from "#dpe/index.js";
import type { z } from "zod";

/** How devices are paired, as a configuration has it. Times are ms. */
export interface PairingConfig {
  /** What a device is given. */
  readonly credentials: PairingKind;
  /** The CA that issues certificates of devices, PEM, and its key. */
  readonly ca?: string | undefined;
  readonly key?: Secret | undefined;
  /** What the server's own certificate leads to, PEM, for devices to trust. Default: `ca`. */
  readonly anchors?: string | undefined;
  /** Of a device's certificate; renewed at two thirds of it. */
  readonly validity: number;
  /** Of a code. */
  readonly codeLifetime: number;
  /** Open at once. */
  readonly maxCodes: number;
  /** How often devices report; absent: as they are configured. */
  readonly every?: number | undefined;
  /** Of their registrations. */
  readonly lifetime?: number | undefined;
}

export function pairingSection(): z.ZodType<PairingConfig, unknown> {
  return section({
    credentials: oneOf("certificate", "digest", "psk").default("certificate"),
    ca: path({ isReadableFile: true }).optional(),
    key: secretFile().optional(),
    anchors: path({ isReadableFile: true }).optional(),
    validity: duration({ minMs: MINUTE_MS, maxMs: 3650 * DAY_MS }).default(365 * DAY_MS),
    codeLifetime: duration({ minMs: 10_000, maxMs: DAY_MS }).default(10 * MINUTE_MS),
    maxCodes: integer({ min: 1, max: 1000 }).default(20),
    // As an agent takes it.
    every: duration({ minMs: 1000, maxMs: DAY_MS }).optional(),
    lifetime: duration({ minMs: 10_000 }).optional(),
  })
    .refine((given) => (given.ca === undefined) === (given.key === undefined), "ca and key go together")
    .refine(
      (given) => given.credentials !== "certificate" || given.ca !== undefined,
      "certificates need ca and its key",
    )
    .refine(
      (given) => given.credentials === "psk" || given.ca !== undefined || given.anchors !== undefined,
      "devices need anchors (or ca) for the server's certificate",
    );
}

/** What does not go together with the rest of a configuration; undefined: nothing. */
export function pairingFault(
  { credentials }: PairingConfig,
  { dpe1Modes, dpe2Modes, hasCoaps, hasCertificate }: PairingPlace,
): string | undefined {
  if (!hasCoaps) return "pairing needs interfaces.dpe1.listen.coaps";
  if (!dpe1Modes.includes(credentials))
    return `pairing gives credentials of the kind ${credentials}, which interfaces.dpe1.clientAuthentication does not list`;
  if (!dpe2Modes.includes(credentials) && !dpe2Modes.includes("none"))
    return `pairing gives credentials of the kind ${credentials}, which interfaces.dpe2.clientAuthentication does not list`;
  if (credentials !== "psk" && !hasCertificate)
    return `pairing with credentials: ${credentials} needs credentials.certificate, by which devices know the server`;
  return undefined;
}

export interface PairingPlace {
  readonly dpe1Modes: readonly string[];
  readonly dpe2Modes: readonly string[];
  readonly hasCoaps: boolean;
  readonly hasCertificate: boolean;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
