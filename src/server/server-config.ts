import {
  host,
  listOf,
  oneOf,
  path,
  port,
  refuse,
  type Secret,
  secret,
  secretFile,
  section,
  text,
} from "#config/index.js";
import type { DigestHash, DigestQop } from "#digest/index.js";
import type { ConnectionLevel, InterfaceName } from "#dpe/index.js";
import {
  type ClientAuthentication,
  type DigestScope,
  formatSubscriberIdentity,
  parseSubscriberIdentity,
  SecurityError,
  type SubscriberIdentity,
} from "#security/index.js";
import { z } from "zod";

/** The configuration of `dpe server`, as its file is checked to. */
export interface ServerConfig {
  readonly realm: string;
  readonly credentials: {
    readonly psk: readonly PskConfig[];
    /** PEM, leaf first. */
    readonly certificate?: string | undefined;
    readonly key?: Secret | undefined;
    /** Trust anchors for client certificates, PEM. */
    readonly ca?: string | undefined;
  };
  readonly dtls: {
    /** Issue connection identifiers (RFC 9146), so that devices keep their associations when a NAT moves them. */
    readonly connectionId: "on" | "off";
  };
  readonly interfaces: {
    readonly dpe1: {
      readonly listen: {
        readonly host: string;
        readonly coap?: number | undefined;
        readonly coaps?: number | undefined;
      };
      readonly connection: ConnectionLevel;
      readonly clientAuthentication: readonly ClientAuthentication[];
      readonly digest: {
        readonly algorithms: readonly DigestHash[];
        readonly qop: readonly DigestQop[];
        readonly scope: DigestScope;
      };
    };
    readonly dpe2: {
      readonly connection: ConnectionLevel;
      readonly clientAuthentication: readonly ClientAuthentication[];
    };
  };
  readonly subscribers: readonly SubscriberConfig[];
}

export interface PskConfig {
  readonly identity: string;
  readonly key: Secret;
}

export interface SubscriberConfig {
  readonly name: string;
  readonly password?: Secret | undefined;
  readonly psk?: PskConfig | undefined;
  /** Names in client certificates: subjectAltNames, or the common name. */
  readonly certificates?: readonly string[] | undefined;
  /** What it is to functions outside of DPE, such as `imsi:001010123456789`. */
  readonly identities?: readonly SubscriberIdentity[] | undefined;
  readonly endpoints?: readonly string[] | undefined;
  readonly interfaces?: readonly InterfaceName[] | undefined;
}

const psk = section({ identity: text(), key: secret() });
const connection = oneOf("none", "dtls");

/** `FORM:VALUE`, in canonical form once read. */
function identity(): z.ZodType<SubscriberIdentity, unknown> {
  return z.codec(text(), z.custom<SubscriberIdentity>(), {
    decode: (value, context) => {
      try {
        return parseSubscriberIdentity(value);
      } catch (error) {
        if (!(error instanceof SecurityError)) throw error;
        refuse(context, { problem: error.message });
        return z.NEVER;
      }
    },
    encode: formatSubscriberIdentity,
  });
}

/** The schema that a file is checked against. */
export const SERVER_SCHEMA: z.ZodType<ServerConfig, unknown> = section({
  realm: text().default("dpe"),
  credentials: section({
    psk: listOf(psk).default([]),
    certificate: path({ isReadableFile: true }).optional(),
    key: secretFile().optional(),
    ca: path({ isReadableFile: true }).optional(),
  })
    .refine(
      (given) => (given.certificate === undefined) === (given.key === undefined),
      "certificate and key go together",
    )
    .default({ psk: [] }),
  dtls: section({ connectionId: oneOf("on", "off").default("on") }).default({ connectionId: "on" }),
  interfaces: section({
    dpe1: section({
      listen: section({ host: host().default("0.0.0.0"), coap: port().optional(), coaps: port().optional() }).refine(
        (listen) => listen.coap !== undefined || listen.coaps !== undefined,
        "needs a port: coap, coaps or both",
      ),
      connection,
      clientAuthentication: listOf(oneOf("certificate", "psk", "external", "digest", "none"), { minItems: 1 }),
      digest: section({
        algorithms: listOf(oneOf("SHA-512-256", "SHA-256", "MD5"), { minItems: 1 }).default(["SHA-256"]),
        qop: listOf(oneOf("auth-int", "auth"), { minItems: 1 }).default(["auth-int", "auth"]),
        scope: oneOf("request", "association").default("association"),
      }).default({ algorithms: ["SHA-256"], qop: ["auth-int", "auth"], scope: "association" }),
    }),
    dpe2: section({
      connection: connection.default("none"),
      clientAuthentication: listOf(oneOf("certificate", "psk", "none"), { minItems: 1 }).default(["none"]),
    }).default({ connection: "none", clientAuthentication: ["none"] }),
  }),
  subscribers: listOf(
    section({
      name: text(),
      password: secret().optional(),
      psk: psk.optional(),
      certificates: listOf(text(), { minItems: 1 }).optional(),
      identities: listOf(identity(), { minItems: 1 }).optional(),
      endpoints: listOf(text(), { minItems: 1 }).optional(),
      interfaces: listOf(oneOf("dpe1", "dpe2")).optional(),
    }),
  ).default([]),
})
  .refine(
    ({ interfaces, credentials }) =>
      credentials.ca !== undefined || !interfaces.dpe1.clientAuthentication.includes("certificate"),
    "clientAuthentication certificate needs credentials.ca",
  )
  .refine(
    ({ interfaces, credentials, subscribers }) =>
      interfaces.dpe1.listen.coaps === undefined ||
      credentials.certificate !== undefined ||
      credentials.psk.length > 0 ||
      subscribers.some((subscriber) => subscriber.psk !== undefined),
    "coaps needs credentials: a certificate with its key, or a psk",
  );
