import { checkPort } from "#bridge/index.js";
import { duration, listOf, oneOf, section, text } from "#config/index.js";
import { checkName } from "#senml/index.js";
import * as z from "zod";
import type { ChangeRule } from "./sources/change-rule.js";
import { type AgentCredentials, CREDENTIALS_SCHEMA } from "./credentials-config.js";

/** A microcontroller on a port, `use: firmware` of an agent's `sources`. */
export interface FirmwareConfig {
  readonly use: "firmware";
  /** `/dev/ttyACM0`, `by-id:PATTERN`, `unix:PATH` or `tcp:HOST:PORT`. */
  readonly port: string;
  readonly baud: number;
  readonly protocol: "slipmux" | "json-lines";
  /** Of JSON lines. */
  readonly checksum: "optional" | "required";
  /** How often what cannot be observed is read, ms. */
  readonly every: number;
  /** Names, as the firmware has them, that a server may set over DPE-2. Default none. */
  readonly writable: readonly string[];
  /** `properties` of the gateway's own endpoint, below `prefix`; or an `endpoint` of its own. */
  readonly as: "properties" | "endpoint";
  readonly prefix?: string | undefined;
  readonly endpoint?: string | undefined;
  /** The endpoint's own; what of them a policy needs, as for the gateway. */
  readonly credentials?: AgentCredentials | undefined;
}

/** The schema of one entry, with the rules that every source may have. */
export function firmwareSchema(
  rules: z.ZodType<readonly ChangeRule[], unknown>,
): z.core.$ZodTypeDiscriminable & z.ZodType<FirmwareConfig & { readonly rules: readonly ChangeRule[] }, unknown> {
  return section({
    rules,
    use: z.literal("firmware"),
    port: text().refine(
      (given) => isAccepted(() => checkPort(given)),
      "a path such as /dev/ttyACM0, by-id:PATTERN, unix:PATH or tcp:HOST:PORT",
    ),
    baud: z.int().min(300).max(4_000_000).default(115_200),
    protocol: oneOf("slipmux", "json-lines").default("slipmux"),
    checksum: oneOf("optional", "required").default("optional"),
    every: duration({ minMs: 1000, maxMs: 86_400_000 }).default(10_000),
    writable: listOf(text()).default([]),
    as: oneOf("properties", "endpoint").default("properties"),
    prefix: text()
      .refine(
        (given) => isAccepted(() => checkName(given)) && !given.endsWith("/"),
        "a name: A-Z a-z 0-9 - : . / _, first a letter or digit",
      )
      .optional(),
    endpoint: text().optional(),
    credentials: CREDENTIALS_SCHEMA.optional(),
  })
    .refine(
      ({ as, endpoint, credentials }) => (as === "endpoint") === (endpoint !== undefined && credentials !== undefined),
      "as: endpoint goes together with endpoint and credentials",
    )
    .refine(({ as, prefix }) => as === "properties" || prefix === undefined, "an endpoint of its own needs no prefix")
    .refine(
      ({ protocol, writable }) => protocol === "slipmux" || writable.length === 0,
      "JSON lines go one way: nothing is writable",
    );
}

/** The start of the names of its properties; empty for an endpoint of its own. */
export function prefixOf({ as, prefix }: FirmwareConfig): string {
  return as === "endpoint" ? "" : `${prefix ?? DEFAULT_PREFIX}/`;
}

/** Whether two microcontrollers would give properties of the same names. */
export function sharePrefix(sources: readonly { readonly use: string }[]): boolean {
  const prefixes = sources
    .filter(isFirmware)
    .filter(({ as }) => as === "properties")
    .map(prefixOf);
  return new Set(prefixes).size < prefixes.length;
}

export function isFirmware(source: { readonly use: string }): source is FirmwareConfig {
  return source.use === "firmware";
}

function isAccepted(check: () => void): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

const DEFAULT_PREFIX = "mcu";
