import {
  coapUri,
  type CoapUri,
  duration,
  listOf,
  oneOf,
  path,
  type Secret,
  secret,
  secretFile,
  section,
  text,
} from "#config/index.js";
import type { ConnectionLevel } from "#dpe/index.js";
import { z } from "zod";
import { DEFAULT_OUTBOX_LIMITS, type OutboxLimits } from "./queue/outbox.js";
import { SOURCE_SCHEMA, type SourceConfig } from "./sources/source-config.js";

/** The configuration of `dpe agent`, as its file is checked to. */
export interface AgentConfig {
  /** The endpoint name. */
  readonly endpoint: string;
  readonly server: CoapUri;
  /** Of the registration, ms; refreshed at half of it. */
  readonly lifetime: number;
  readonly interfaces: {
    readonly dpe1: {
      readonly connection: ConnectionLevel;
      readonly serverAuthentication: "certificate" | "psk" | "none";
      /** Trust anchors for the server's certificate, PEM. */
      readonly ca?: string | undefined;
      readonly credentials: {
        readonly username?: string | undefined;
        readonly password?: Secret | undefined;
        readonly psk?: { readonly identity: string; readonly key: Secret } | undefined;
        /** PEM, leaf first. */
        readonly certificate?: string | undefined;
        readonly key?: Secret | undefined;
      };
    };
    readonly dpe2: { readonly bind: "association" | "none"; readonly connection: ConnectionLevel };
  };
  /** The folder of what must survive a restart: unsent readings. Without it they wait in memory. */
  readonly store?: string | undefined;
  readonly queue: OutboxLimits;
  readonly sources: readonly SourceConfig[];
}

/** The schema that a file is checked against. */
export const AGENT_SCHEMA: z.ZodType<AgentConfig, unknown> = section({
  endpoint: text(),
  server: coapUri(),
  lifetime: duration({ minMs: 10_000 }).default(3_600_000),
  interfaces: section({
    dpe1: section({
      connection: oneOf("none", "dtls"),
      serverAuthentication: oneOf("certificate", "psk", "none"),
      ca: path({ isReadableFile: true }).optional(),
      credentials: section({
        username: text().optional(),
        password: secret().optional(),
        psk: section({ identity: text(), key: secret() }).optional(),
        certificate: path({ isReadableFile: true }).optional(),
        key: secretFile().optional(),
      })
        .refine(
          (given) => (given.certificate === undefined) === (given.key === undefined),
          "certificate and key go together",
        )
        .refine(
          ({ username, password }) => (username === undefined) === (password === undefined),
          "username and password go together",
        )
        .default({}),
    }).refine(
      ({ serverAuthentication, ca }) => (serverAuthentication === "certificate") === (ca !== undefined),
      "serverAuthentication certificate and ca go together",
    ),
    dpe2: section({
      bind: oneOf("association", "none").default("association"),
      connection: oneOf("none", "dtls").default("none"),
    }).default({ bind: "association", connection: "none" }),
  }),
  store: path().optional(),
  queue: section({
    maxReadings: z.int().min(100).max(1_000_000).default(DEFAULT_OUTBOX_LIMITS.maxReadings),
    dropFirst: oneOf("oldest", "leastImportant").default(DEFAULT_OUTBOX_LIMITS.dropFirst),
  }).default(DEFAULT_OUTBOX_LIMITS),
  sources: listOf(SOURCE_SCHEMA).default([{ use: "host", every: 10_000, units: [], rules: [] }]),
});
