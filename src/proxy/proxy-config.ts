import {
  coapUri,
  type CoapUri,
  duration,
  host,
  integer,
  ipPrefixBlock,
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
import type { IdentityForm } from "#dpe/index.js";
import type { IpPrefix } from "#ip/index.js";
import { RADIUS_SCHEMA, type RadiusConfig, subscriberIdentityBlock } from "#radius/index.js";
import type { SubscriberIdentity } from "#security/index.js";
import * as z from "zod";

/** The configuration of `dpe proxy`, as its file is checked to. */
export interface ProxyConfig {
  /** In diagnostics of 5.08 Hop Limit Reached. */
  readonly name: string;
  readonly listen: {
    readonly host: string;
    readonly coap?: number | undefined;
    readonly coaps?: number | undefined;
    /** Whether clients on plain UDP must show by Echo (RFC 9175) that they receive at their address. */
    readonly proveAddresses: boolean;
  };
  /** Toward clients. */
  readonly credentials: {
    readonly psk: readonly { readonly identity: string; readonly key: Secret }[];
    readonly certificate?: string | undefined;
    readonly key?: Secret | undefined;
    /** Anchors for client certificates, PEM. */
    readonly ca?: string | undefined;
  };
  readonly targets: readonly TargetConfig[];
  readonly routes: readonly RouteConfig[];
  /** Names of the targets that Proxy-Uri and Proxy-Scheme may reach. */
  readonly forward: readonly string[];
  readonly identities: IdentitiesConfig;
  /** Whether requests of a target, on the association that a client's requests opened, go to that client. */
  readonly requestsBack: "relay" | "refuse";
  /** Of requests that come without Hop-Limit. */
  readonly hopLimit: number;
  /** Ms until a target must have answered. */
  readonly timeout: number;
  /** Ms after which a client's unused association with a target is closed. */
  readonly idleTimeout: number;
  /** Associations with targets at once, one for each client and target. */
  readonly maxAssociations: number;
}

/** A server that is forwarded to. */
export interface TargetConfig {
  readonly name: string;
  /** Its path, if it has one, bounds what is reached. */
  readonly uri: CoapUri;
  readonly serverAuthentication: "certificate" | "psk" | "none";
  readonly ca?: string | undefined;
  readonly credentials: {
    readonly psk?: { readonly identity: string; readonly key: Secret } | undefined;
    readonly certificate?: string | undefined;
    readonly key?: Secret | undefined;
  };
}

/** A reverse mapping: requests for this host (default: any) and below this path go below the target's path. */
export interface RouteConfig {
  readonly host?: string | undefined;
  readonly path: string;
  readonly target: string;
}

export interface IdentitiesConfig {
  /** In order; the first that knows the client is inserted. Empty: none is inserted. */
  readonly sources: readonly IdentitySource[];
  /** Whether clients that no source knows are refused. */
  readonly required: boolean;
  readonly static: readonly StaticIdentity[];
  /** The forms that identities from DTLS are inserted in. */
  readonly dtls: { readonly psk: IdentityForm; readonly certificate: IdentityForm };
  readonly radius?: RadiusConfig | undefined;
}

export type IdentitySource = "static" | "dtls" | "radius";

export interface StaticIdentity {
  readonly psk?: string | undefined;
  readonly certificate?: string | undefined;
  readonly address?: IpPrefix | undefined;
  readonly identity: SubscriberIdentity;
}

const psk = section({ identity: text(), key: secret() });
const form = oneOf("msisdn", "imsi", "nai", "ip", "opaque");

/** The schema that a file is checked against. */
export const PROXY_SCHEMA: z.ZodType<ProxyConfig, unknown> = section({
  name: text().default("dpe-proxy"),
  listen: section({
    host: host().default("0.0.0.0"),
    coap: port().optional(),
    coaps: port().optional(),
    proveAddresses: z.boolean().default(true),
  }).refine((listen) => listen.coap !== undefined || listen.coaps !== undefined, "needs a port: coap, coaps or both"),
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
  targets: listOf(
    section({
      name: text(),
      uri: coapUri(),
      serverAuthentication: oneOf("certificate", "psk", "none"),
      ca: path({ isReadableFile: true }).optional(),
      credentials: section({
        psk: psk.optional(),
        certificate: path({ isReadableFile: true }).optional(),
        key: secretFile().optional(),
      })
        .refine(
          (given) => (given.certificate === undefined) === (given.key === undefined),
          "certificate and key go together",
        )
        .default({}),
    })
      .refine(
        ({ serverAuthentication, ca }) => (serverAuthentication === "certificate") === (ca !== undefined),
        "serverAuthentication certificate and ca go together",
      )
      .refine(
        ({ serverAuthentication, credentials }) => serverAuthentication !== "psk" || credentials.psk !== undefined,
        "serverAuthentication psk needs credentials.psk",
      )
      .refine(
        ({ serverAuthentication, uri }) => serverAuthentication === "none" || uri.scheme === "coaps",
        "a server that is to be authenticated needs a coaps URI",
      )
      .refine(({ uri }) => uri.query === "" && isDecodable(uri.path), "the URI of a target has a path and no query"),
    { minItems: 1 },
  ),
  routes: listOf(
    section({ host: host().optional(), path: text().default("/"), target: text() }).refine(
      ({ path: prefix }) => prefix.startsWith("/") && !prefix.includes("?") && isDecodable(prefix),
      "the path begins with /, has no query, and % only before two hexadecimal digits",
    ),
  ).default([]),
  forward: listOf(text()).default([]),
  identities: section({
    sources: listOf(oneOf("static", "dtls", "radius")).default([]),
    required: z.boolean().default(true),
    static: listOf(
      section({
        psk: text().optional(),
        certificate: text().optional(),
        address: ipPrefixBlock().optional(),
        identity: subscriberIdentityBlock(),
      }).refine(
        ({ psk: identity, certificate, address }) =>
          [identity, certificate, address].filter((value) => value !== undefined).length === 1,
        "a client is known by one of psk, certificate and address",
      ),
    ).default([]),
    dtls: section({ psk: form.default("opaque"), certificate: form.default("opaque") }).default({
      psk: "opaque",
      certificate: "opaque",
    }),
    radius: RADIUS_SCHEMA.optional(),
  })
    .refine(
      ({ sources, radius }) => sources.includes("radius") === (radius !== undefined),
      "the source radius and the section radius go together",
    )
    .refine(
      ({ sources, static: list }) => sources.includes("static") === list.length > 0,
      "the source static and the list static go together",
    )
    .refine(
      ({ sources, required }) => sources.length > 0 || !required,
      "give sources, or required: false to forward for clients that nobody knows",
    ),
  requestsBack: oneOf("relay", "refuse").default("relay"),
  hopLimit: integer({ min: 1, max: 255 }).default(16),
  timeout: duration({ minMs: 1000, maxMs: 600_000 }).default(60_000),
  idleTimeout: duration({ minMs: 10_000, maxMs: 86_400_000 }).default(3_600_000),
  maxAssociations: integer({ min: 1, max: 1_000_000 }).default(1000),
}).superRefine((config, context) => {
  const names = config.targets.map(({ name }) => name);
  names.forEach((name, index) => {
    if (names.indexOf(name) < index)
      refuse(context, { problem: "a target of this name is above" }, ["targets", index, "name"]);
  });
  config.routes.forEach(({ target }, index) => {
    if (!names.includes(target))
      refuse(context, { problem: `no target has the name ${target}` }, ["routes", index, "target"]);
  });
  config.forward.forEach((target, index) => {
    if (!names.includes(target)) refuse(context, { problem: `no target has the name ${target}` }, ["forward", index]);
  });
  if (config.routes.length + config.forward.length === 0)
    refuse(context, { problem: "nothing is forwarded: give routes, forward or both" });
  const { listen, credentials, identities, timeout, idleTimeout } = config;
  if (listen.coap !== undefined && listen.coap !== 0 && listen.coap === listen.coaps)
    refuse(context, { problem: "coap has that port" }, ["listen", "coaps"]);
  if (idleTimeout < timeout)
    refuse(
      context,
      {
        problem: `idleTimeout is shorter than timeout, ${timeout / 1000}s: it would end what still waits for its answer`,
        hint: `write a longer idleTimeout, or timeout: ${idleTimeout / 1000}s`,
      },
      ["idleTimeout"],
    );
  identities.static.forEach(({ psk: identity, certificate }, index) => {
    const problem =
      identity !== undefined && !credentials.psk.some((known) => known.identity === identity)
        ? "credentials.psk has no such identity"
        : certificate !== undefined && credentials.ca === undefined
          ? "clients are known by certificates only with credentials.ca"
          : undefined;
    if (problem !== undefined)
      refuse(context, { problem }, ["identities", "static", index, identity === undefined ? "certificate" : "psk"]);
  });
  if (identities.sources.includes("dtls") && listen.coaps === undefined)
    refuse(context, { problem: "the source dtls needs listen.coaps" }, ["identities", "sources"]);
  if (listen.coaps !== undefined && credentials.certificate === undefined && credentials.psk.length === 0)
    refuse(context, { problem: "coaps needs credentials: a certificate with its key, or a psk" }, ["credentials"]);
});

function isDecodable(path: string): boolean {
  try {
    decodeURIComponent(path);
    return true;
  } catch {
    return false;
  }
}
