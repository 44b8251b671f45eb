import { host, listOf, oneOf, port, type Secret, section, secret, text } from "#config/index.js";
import type { DigestHash, DigestQop } from "#digest/index.js";
import type { ConnectionLevel, InterfaceName } from "#dpe/index.js";
import type { ClientAuthentication, DigestScope } from "#security/index.js";
import type { z } from "zod";

/** The configuration of `dpe server`, as its file is checked to. */
export interface ServerConfig {
  readonly realm: string;
  readonly credentials: { readonly psk: readonly PskConfig[] };
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
  readonly endpoints?: readonly string[] | undefined;
  readonly interfaces?: readonly InterfaceName[] | undefined;
}

const psk = section({ identity: text(), key: secret() });
const connection = oneOf("none", "dtls");

/** The schema that a file is checked against. */
export const SERVER_SCHEMA: z.ZodType<ServerConfig, unknown> = section({
  realm: text().default("dpe"),
  credentials: section({ psk: listOf(psk).default([]) }).default({ psk: [] }),
  interfaces: section({
    dpe1: section({
      listen: section({ host: host().default("0.0.0.0"), coap: port().optional(), coaps: port().optional() }).refine(
        (listen) => listen.coap !== undefined || listen.coaps !== undefined,
        "needs a port: coap, coaps or both",
      ),
      connection,
      clientAuthentication: listOf(oneOf("psk", "digest", "none"), { minItems: 1 }),
      digest: section({
        algorithms: listOf(oneOf("SHA-512-256", "SHA-256", "MD5"), { minItems: 1 }).default(["SHA-256"]),
        qop: listOf(oneOf("auth-int", "auth"), { minItems: 1 }).default(["auth-int", "auth"]),
        scope: oneOf("request", "association").default("association"),
      }).default({ algorithms: ["SHA-256"], qop: ["auth-int", "auth"], scope: "association" }),
    }),
    dpe2: section({
      connection: connection.default("none"),
      clientAuthentication: listOf(oneOf("psk", "none"), { minItems: 1 }).default(["none"]),
    }).default({ connection: "none", clientAuthentication: ["none"] }),
  }),
  subscribers: listOf(
    section({
      name: text(),
      password: secret().optional(),
      psk: psk.optional(),
      endpoints: listOf(text(), { minItems: 1 }).optional(),
      interfaces: listOf(oneOf("dpe1", "dpe2")).optional(),
    }),
  ).default([]),
});
