import { isIP } from "node:net";
import {
  coapUri,
  type CoapUri,
  duration,
  host,
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
import type { ServerAuthentication } from "#security/index.js";
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
    readonly dpe1: AgentInterface & {
      readonly credentials: AgentCredentials;
      readonly digest: {
        /** Refuse answers that do not prove that the server knows our credential too (rspauth). */
        readonly requireServerProof: boolean;
        readonly dangerAllowMd5: boolean;
        readonly dangerAllowNoQop: boolean;
      };
    };
    readonly dpe2: AgentInterface & {
      /** Over the association that carries DPE-1, at addresses of our own, or not at all. */
      readonly bind: "association" | "none" | readonly CoapUri[];
    };
  };
  /** The folder of what must survive a restart: unsent readings. Without it they wait in memory. */
  readonly store?: string | undefined;
  readonly queue: OutboxLimits;
  readonly sources: readonly SourceConfig[];
}

/** What an interface demands of the server. */
export interface AgentInterface {
  readonly connection: ConnectionLevel;
  /** One mode, or several in order of preference. */
  readonly serverAuthentication: ServerAuthenticationName | readonly ServerAuthenticationName[];
  /** Trust anchors for the server's certificate, PEM. */
  readonly ca?: string | undefined;
  /** For `address`: names, addresses and prefixes such as 192.0.2.0/24. */
  readonly addresses?: readonly string[] | undefined;
}

export type ServerAuthenticationName = Exclude<ServerAuthentication, "rawPublicKey">;

export interface AgentGba {
  readonly btid: string;
  /** 32 bytes: `hex:…`, or base64 of them. */
  readonly ksNaf: Secret;
  /** The server's name in the bootstrapping. Default: the host that is dialled. */
  readonly naf?: string | undefined;
}

export interface AgentCredentials {
  readonly username?: string | undefined;
  readonly password?: Secret | undefined;
  /** What bootstrapping with the network gave (3GPP TS 33.222), in place of username and password. */
  readonly gba?: AgentGba | undefined;
  readonly psk?: { readonly identity: string; readonly key: Secret } | undefined;
  /** PEM, leaf first. */
  readonly certificate?: string | undefined;
  readonly key?: Secret | undefined;
}

const serverAuthentication = oneOf("certificate", "psk", "address", "none");
const serverAuthentications = z.union([listOf(serverAuthentication, { minItems: 1 }), serverAuthentication]);

function lists({ serverAuthentication: modes }: Pick<AgentInterface, "serverAuthentication">, mode: string): boolean {
  return typeof modes === "string" ? modes === mode : modes.some((one) => one === mode);
}

/** A name, an address, or a prefix of addresses. */
function serverAddress(): z.ZodType<string, unknown> {
  return text().refine((value) => {
    const [base = "", length, ...more] = value.split("/");
    if (length === undefined) return true;
    const bits = isIP(base) === 6 ? 128 : isIP(base) === 4 ? 32 : -1;
    return more.length === 0 && /^\d{1,3}$/.test(length) && Number(length) <= bits;
  }, "expected a name, an address or a prefix such as 192.0.2.0/24");
}

const DEFAULT_AGENT_DIGEST = { requireServerProof: false, dangerAllowMd5: false, dangerAllowNoQop: false };

/** The schema that a file is checked against. */
export const AGENT_SCHEMA: z.ZodType<AgentConfig, unknown> = section({
  endpoint: text(),
  server: coapUri({ schemes: ["coap", "coaps", "coap+tcp", "coaps+tcp"] }),
  lifetime: duration({ minMs: 10_000 }).default(3_600_000),
  interfaces: section({
    dpe1: section({
      connection: oneOf("none", "dtls"),
      serverAuthentication: serverAuthentications,
      addresses: listOf(serverAddress(), { minItems: 1 }).optional(),
      ca: path({ isReadableFile: true }).optional(),
      credentials: section({
        username: text().optional(),
        password: secret().optional(),
        gba: section({
          btid: text(),
          ksNaf: secret().refine((value) => ksNafBytes(value) !== undefined, "Ks_NAF has 32 bytes: hex:… or base64"),
          naf: host().optional(),
        }).optional(),
        psk: section({ identity: text(), key: secret() }).optional(),
        certificate: path({ isReadableFile: true }).optional(),
        key: secretFile().optional(),
      })
        .refine(
          (given) => (given.certificate === undefined) === (given.key === undefined),
          "certificate and key go together",
        )
        .refine(
          ({ username, gba }) => username === undefined || gba === undefined,
          "username with password and gba exclude each other",
        )
        .refine(
          ({ username, password }) => (username === undefined) === (password === undefined),
          "username and password go together",
        )
        .default({}),
      digest: section({
        requireServerProof: z.boolean().default(false),
        dangerAllowMd5: z.boolean().default(false),
        dangerAllowNoQop: z.boolean().default(false),
      }).default(DEFAULT_AGENT_DIGEST),
    })
      .refine(
        (dpe1) => lists(dpe1, "certificate") === (dpe1.ca !== undefined),
        "serverAuthentication certificate and ca go together",
      )
      .refine(
        (dpe1) => lists(dpe1, "address") === (dpe1.addresses !== undefined),
        "serverAuthentication address and addresses go together",
      )
      .refine(
        (dpe1) => !lists(dpe1, "psk") || dpe1.credentials.psk !== undefined,
        "serverAuthentication psk needs credentials.psk",
      ),
    dpe2: section({
      bind: z
        .union([oneOf("association", "none"), listOf(coapUri(), { minItems: 1 })])
        .refine(
          (bind) => typeof bind === "string" || bind.every(({ host }) => isIP(host) !== 0),
          "an address to listen on is a literal",
        )
        .default("association"),
      connection: oneOf("none", "dtls").default("none"),
      serverAuthentication: serverAuthentications.default("none"),
      addresses: listOf(serverAddress(), { minItems: 1 }).optional(),
      ca: path({ isReadableFile: true }).optional(),
    })
      .refine(
        (dpe2) => lists(dpe2, "address") === (dpe2.addresses !== undefined),
        "serverAuthentication address and addresses go together",
      )
      .default({ bind: "association", connection: "none", serverAuthentication: "none" }),
  }).refine(({ dpe1, dpe2 }) => {
    if (typeof dpe2.bind === "string") return true;
    const { psk, certificate } = dpe1.credentials;
    return psk !== undefined || certificate !== undefined || dpe2.bind.every(({ scheme }) => scheme === "coap");
  }, "to listen on coaps, dpe2 needs dpe1.credentials with a psk, or a certificate and its key"),
  store: path().optional(),
  queue: section({
    maxReadings: z.int().min(100).max(1_000_000).default(DEFAULT_OUTBOX_LIMITS.maxReadings),
    dropFirst: oneOf("oldest", "leastImportant").default(DEFAULT_OUTBOX_LIMITS.dropFirst),
  }).default(DEFAULT_OUTBOX_LIMITS),
  sources: listOf(SOURCE_SCHEMA).default([{ use: "host", every: 10_000, units: [], rules: [] }]),
});

/** Ks_NAF as it is given, raw or in base64; undefined where it has not its 32 bytes. */
export function ksNafBytes(value: Secret): Uint8Array | undefined {
  const bytes = value.reveal();
  if (bytes.length === KS_NAF_BYTES) return bytes;
  const written = value.text().trim();
  return /^[A-Za-z0-9+/]{43}=$/.test(written) ? Uint8Array.from(Buffer.from(written, "base64")) : undefined;
}

/** 3GPP TS 33.220 annex B. */
const KS_NAF_BYTES = 32;
