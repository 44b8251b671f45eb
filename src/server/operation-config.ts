import { isIP } from "node:net";
import {
  duration,
  host,
  oneOf,
  path,
  port,
  refuse,
  type Secret,
  secret,
  section,
  storeLocation,
  text,
  type StoredAt,
} from "#config/index.js";
import { DEFAULT_STORE_LIMITS } from "#store/index.js";
import * as z from "zod";
import { type LimitsConfig, limitsSection } from "./limits-config.js";

/** How a server is operated: where it keeps its state, and who may look at it. */
export interface OperationConfig {
  /** Absent: in memory, forgotten with the process. */
  readonly store?: StoredAt | undefined;
  readonly dangerVolatileStore: boolean;
  readonly history: { readonly values?: number | undefined; readonly age: number };
  readonly limits: LimitsConfig;
  /** API, page and metrics. Absent: only over the control socket. */
  readonly http?: HttpConfig | undefined;
  /** The Unix socket of the commands; absent: the default place; "none": there is none. */
  readonly control?: string | undefined;
  readonly mqtt?: MqttConfig | undefined;
  /** The least that is logged; reports are debug. */
  readonly log: "debug" | "info" | "warn" | "error";
}

export interface HttpConfig {
  readonly host: string;
  readonly port: number;
  readonly token?: Secret | undefined;
}

export interface MqttConfig {
  readonly url: string;
  readonly username?: string | undefined;
  readonly password?: Secret | undefined;
  /** Trust anchors for mqtts, PEM; absent: those of Node.js. */
  readonly ca?: string | undefined;
  /** Where topics begin. */
  readonly topic: string;
  readonly discovery: "homeassistant" | "none";
}

/** Whether an address is this machine's own; a name is only where it is `localhost`. */
export function isLoopback(address: string): boolean {
  return address === "localhost" || address === "::1" || (isIP(address) === 4 && address.startsWith("127."));
}

export const OPERATION_SHAPE: OperationShape = {
  store: storeLocation().optional(),
  dangerVolatileStore: z.boolean().default(false),
  history: section({
    values: z.int().min(1).max(1_000_000).optional(),
    age: duration({ minMs: 60_000 }).default(DEFAULT_STORE_LIMITS.maxAgeMs),
  }).default({ age: DEFAULT_STORE_LIMITS.maxAgeMs }),
  limits: limitsSection(),
  http: section({
    host: host().default("127.0.0.1"),
    port: port().default(8080),
    token: secret({ minBytes: 16 }).optional(),
  })
    .superRefine((given, context) => {
      if (given.token !== undefined || isLoopback(given.host)) return;
      refuse(context, {
        problem: `${given.host} can be reached from elsewhere, so a token is needed`,
        hint: "make one with: openssl rand -hex 32 > token; chmod 600 token; and set token: file:token",
      });
    })
    .optional(),
  control: z.union([oneOf("none"), path()]).optional(),
  mqtt: section({
    url: mqttUrl(),
    username: text().optional(),
    password: secret().optional(),
    ca: path({ isReadableFile: true }).optional(),
    topic: topic().default("dpe"),
    discovery: oneOf("homeassistant", "none").default("homeassistant"),
  })
    .refine((given) => given.password === undefined || given.username !== undefined, "a password needs a username")
    .refine((given) => given.ca === undefined || given.url.startsWith("mqtts:"), "ca is for mqtts://")
    .refine(
      (given) =>
        given.password === undefined ||
        given.url.startsWith("mqtts:") ||
        isLoopback(new URL(given.url).hostname.replace(/^\[|\]$/g, "")),
      "a password is not sent over plain mqtt:// to another machine; use mqtts://",
    )
    .optional(),
  log: oneOf("debug", "info", "warn", "error").default("info"),
};

type OperationShape = { readonly [Name in keyof OperationConfig]-?: z.ZodType<OperationConfig[Name], unknown> };

function mqttUrl(): z.ZodType<string, unknown> {
  return z.codec(z.unknown(), z.string(), {
    decode: (value, context) => {
      if (typeof value === "string" && /^mqtts?:\/\/[^/@]+\/?$/.test(value) && URL.canParse(value)) return value;
      refuse(context, {
        code: typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
        expected: "mqtt://HOST:PORT or mqtts://HOST:PORT",
      });
      return z.NEVER;
    },
    encode: (value) => value,
  });
}

function topic(): z.ZodType<string, unknown> {
  return z.codec(text(), z.string(), {
    decode: (value, context) => {
      if (/^[^+#/$][^+#]*[^+#/]$|^[^+#/$]$/.test(value)) return value;
      refuse(context, { expected: "a topic without + and #, not beginning or ending with /" });
      return z.NEVER;
    },
    encode: (value) => value,
  });
}
