import { isIP } from "node:net";
import {
  coapUri,
  type CoapUri,
  duration,
  fingerprint,
  listOf,
  oneOf,
  path,
  refuse,
  section,
  text,
} from "#config/index.js";
import { ROUND_TRIP_ESTIMATIONS, type RoundTripEstimation } from "#coap/index.js";
import type { ConnectionLevel } from "#dpe/index.js";
import { ipPrefix, parseIpAddress } from "#ip/index.js";
import { SERVER_AUTHENTICATIONS, type ServerAuthentication } from "#security/index.js";
import * as z from "zod";
import { type AgentCredentials, CREDENTIALS_SCHEMA } from "./credentials-config.js";
import { sharePrefix } from "./firmware-config.js";
import { DEFAULT_OUTBOX_LIMITS, type OutboxLimits } from "./queue/outbox.js";
import { clientPolicy, isBelow, leastConnection } from "./server-authentication.js";
import { isList, SERVER_LIST_SCHEMA, type ServerEntry } from "./server-list.js";
import { SOURCE_SCHEMA, type SourceConfig } from "./sources/source-config.js";

/** The configuration of `dpe agent`, as its file is checked to. */
export interface AgentConfig {
  /** The endpoint name. */
  readonly endpoint: string;
  /** One, or several in the order in which they are tried. */
  readonly server: CoapUri | readonly (CoapUri | ServerEntry)[];
  readonly failover: {
    /** A server that shows no sign of life for so long, while something is asked of it, is looked for beside it, ms. */
    readonly suspectAfter: number;
    /** One that does not answer a handshake is given up after so long, ms, where there is another server or address. */
    readonly giveUpAfter: number;
    /** The first server is tried again after so long on another, ms. */
    readonly returnAfter: number;
  };
  /** Of the path to the server, IP and UDP headers included, in bytes; reports are as long as it takes. */
  readonly mtu: number;
  /** Of retransmissions: RFC 7252's, or following the server's round-trip times (CoCoA, FASOR). */
  readonly timeOuts: RoundTripEstimation;
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
      /** The server is asked for a sign of life when nothing has come for so long, ms, so that it still reaches us behind a NAT. */
      readonly keepAlive?: number | undefined;
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
  readonly serverAuthentication: ServerAuthentication | readonly ServerAuthentication[];
  /** Trust anchors for the server's certificate, PEM. */
  readonly ca?: string | undefined;
  /** For `rawPublicKey`: fingerprints of the keys that the server may have, as `dpe key` prints them. */
  readonly serverKeys?: readonly string[] | undefined;
  /** For `address`: names, addresses and prefixes such as 192.0.2.0/24. */
  readonly addresses?: readonly string[] | undefined;
}

const serverAuthentication = oneOf(...SERVER_AUTHENTICATIONS);
const serverAuthentications = z.union([listOf(serverAuthentication, { minItems: 1 }), serverAuthentication]);

function lists({ serverAuthentication: modes }: Pick<AgentInterface, "serverAuthentication">, mode: string): boolean {
  return typeof modes === "string" ? modes === mode : modes.some((one) => one === mode);
}

/** A name, an address, or a prefix of addresses. */
function serverAddress(): z.ZodType<string, unknown> {
  return text().refine((value) => {
    const [base = "", length, ...more] = value.split("/");
    if (length === undefined) return true;
    const address = parseIpAddress(base);
    const prefix = address && /^\d{1,3}$/.test(length) ? ipPrefix(address, Number(length)) : undefined;
    return more.length === 0 && prefix !== undefined;
  }, "expected a name, an address or a prefix such as 192.0.2.0/24");
}

/** A request is sent again after two to three seconds. Five sendings of the first flight of a handshake take 15 s. */
const DEFAULT_FAILOVER = { suspectAfter: 3000, giveUpAfter: 20_000, returnAfter: 600_000 };
/** The least of IPv6 (RFC 8200 §5), and so safe everywhere; of Ethernet at most. Below the least one no handshake passes well. */
const DEFAULT_MTU_BYTES = 1280;
const MIN_MTU_BYTES = 512;
const MAX_MTU_BYTES = 1500;
/** RFC 8085 §3.5: not more often. */
const MIN_KEEP_ALIVE_MS = 15_000;
const DEFAULT_AGENT_DIGEST = { requireServerProof: false, dangerAllowMd5: false, dangerAllowNoQop: false };

/** The schema that a file is checked against. */
export const AGENT_SCHEMA: z.ZodType<AgentConfig, unknown> = section({
  endpoint: text(),
  server: SERVER_LIST_SCHEMA,
  failover: section({
    suspectAfter: duration({ minMs: 500, maxMs: 60_000 }).default(DEFAULT_FAILOVER.suspectAfter),
    giveUpAfter: duration({ minMs: 1000, maxMs: 60_000 }).default(DEFAULT_FAILOVER.giveUpAfter),
    returnAfter: duration({ minMs: 1000 }).default(DEFAULT_FAILOVER.returnAfter),
  }).default(DEFAULT_FAILOVER),
  mtu: z.int().min(MIN_MTU_BYTES).max(MAX_MTU_BYTES).default(DEFAULT_MTU_BYTES),
  timeOuts: oneOf(...ROUND_TRIP_ESTIMATIONS).default("none"),
  lifetime: duration({ minMs: 10_000 }).default(3_600_000),
  interfaces: section({
    dpe1: section({
      connection: oneOf("none", "dtls"),
      serverAuthentication: serverAuthentications,
      serverKeys: listOf(fingerprint(), { minItems: 1 }).optional(),
      addresses: listOf(serverAddress(), { minItems: 1 }).optional(),
      ca: path({ isReadableFile: true }).optional(),
      credentials: CREDENTIALS_SCHEMA.prefault({}),
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
        (dpe1) => lists(dpe1, "rawPublicKey") === (dpe1.serverKeys !== undefined),
        "serverAuthentication rawPublicKey and serverKeys go together",
      )
      .refine(
        (dpe1) => lists(dpe1, "address") === (dpe1.addresses !== undefined),
        "serverAuthentication address and addresses go together",
      )
      .refine(
        (dpe1) => !lists(dpe1, "psk") || dpe1.credentials.psk !== undefined,
        "serverAuthentication psk needs credentials.psk",
      )
      .refine(
        ({ ca, credentials: { certificate, renew } }) =>
          renew !== true || certificate !== undefined || ca !== undefined,
        "credentials.renew renews credentials.certificate and ca: there is neither",
      ),
    dpe2: section({
      bind: z
        .union([oneOf("association", "none"), listOf(coapUri(), { minItems: 1 })])
        .refine(
          (bind) => typeof bind === "string" || bind.every(({ host }) => isIP(host) !== 0),
          "an address to listen on is a literal",
        )
        .default("association"),
      keepAlive: duration({ minMs: MIN_KEEP_ALIVE_MS }).optional(),
      connection: oneOf("none", "dtls").default("none"),
      serverAuthentication: serverAuthentications.default("none"),
      serverKeys: listOf(fingerprint(), { minItems: 1 }).optional(),
      addresses: listOf(serverAddress(), { minItems: 1 }).optional(),
      ca: path({ isReadableFile: true }).optional(),
    })
      .refine(
        (dpe2) => lists(dpe2, "rawPublicKey") === (dpe2.serverKeys !== undefined),
        "serverAuthentication rawPublicKey and serverKeys go together",
      )
      .refine(
        (dpe2) => lists(dpe2, "address") === (dpe2.addresses !== undefined),
        "serverAuthentication address and addresses go together",
      )
      .refine(
        ({ bind, keepAlive }) => keepAlive === undefined || bind === "association",
        "keepAlive is for bind: association; to addresses of our own the path is the server's",
      )
      .default({ bind: "association", connection: "none", serverAuthentication: "none" }),
  }).refine(({ dpe1, dpe2 }) => {
    if (typeof dpe2.bind === "string") return true;
    const { psk, certificate, rawPublicKey } = dpe1.credentials;
    return (
      [psk, certificate, rawPublicKey].some((given) => given !== undefined) ||
      dpe2.bind.every(({ scheme }) => scheme === "coap")
    );
  }, "to listen on coaps, dpe2 needs dpe1.credentials with a psk, a rawPublicKey, or a certificate and its key"),
  store: path().optional(),
  queue: section({
    maxReadings: z.int().min(100).max(1_000_000).default(DEFAULT_OUTBOX_LIMITS.maxReadings),
    dropFirst: oneOf("oldest", "leastImportant").default(DEFAULT_OUTBOX_LIMITS.dropFirst),
  }).default(DEFAULT_OUTBOX_LIMITS),
  sources: listOf(SOURCE_SCHEMA)
    .refine((sources) => !sharePrefix(sources), "two microcontrollers need two prefixes")
    .default([{ use: "host", every: 10_000, units: [], rules: [] }]),
}).superRefine(({ server, interfaces: { dpe1 } }, context) => {
  const policy = clientPolicy(dpe1);
  const isDtlsNeeded = isBelow("none", leastConnection(policy));
  const isKeyNeeded = policy.serverAuthentication.every((mode) => mode === "rawPublicKey");
  (isList(server) ? server : [server]).forEach((entry, index) => {
    const { scheme } = "uri" in entry ? entry.uri : entry;
    const path = ["server", ...(isList(server) ? [index] : []), ...("uri" in entry ? ["uri"] : [])];
    if (scheme === "coap+tcp" && isDtlsNeeded)
      refuse(
        context,
        {
          problem: "coap+tcp is less than what interfaces.dpe1 asks of the connection",
          hint: "write coaps+tcp or coaps",
        },
        path,
      );
    if (scheme === "coaps+tcp" && isKeyNeeded)
      refuse(context, { problem: "a server shows a raw public key over DTLS only", hint: "write coaps" }, path);
  });
});
