import { ROUND_TRIP_ESTIMATIONS, type RoundTripEstimation } from "#coap/index.js";
import {
  host,
  ipPrefixBlock,
  listOf,
  oneOf,
  path,
  port,
  refuse,
  type Secret,
  secretFile,
  section,
  text,
} from "#config/index.js";
import type { ConnectionLevel } from "#dpe/index.js";
import { RADIUS_SCHEMA, subscriberIdentityBlock } from "#radius/index.js";
import { CLIENT_AUTHENTICATIONS, type ClientAuthentication, gbaRealm } from "#security/index.js";
import * as z from "zod";
import { refuseContradictions } from "./contradictions.js";
import type { ExternalConfig } from "./external-sources.js";
import { type GbaConfig, gbaSection } from "./gba-config.js";
import { DEFAULT_DIGEST, type DigestConfig, digestSection } from "./interface-config.js";
import { type PairingConfig, pairingFault, pairingSection } from "./pairing/pairing-config.js";
import { OPERATION_SHAPE, type OperationConfig } from "./operation-config.js";
import { type PskConfig, pskSection, type SubscriberConfig, subscriberSection } from "./subscriber-config.js";

/** The configuration of `dpe server`, as its file is checked to. */
export interface ServerConfig extends OperationConfig {
  readonly realm: string;
  /** Of retransmissions on DPE-2: RFC 7252's, or following each device's round-trip times (CoCoA, FASOR). */
  readonly timeOuts: RoundTripEstimation;
  readonly credentials: {
    readonly psk: readonly PskConfig[];
    /** PEM, leaf first. */
    readonly certificate?: string | undefined;
    readonly key?: Secret | undefined;
    /** Whether the server renews its certificate, and the CA that issued it, by itself. */
    readonly renew?: boolean | undefined;
    /** The private key that stands for the server without a certificate (RFC 7250), PEM; over DTLS only. */
    readonly rawPublicKey?: Secret | undefined;
    /** Trust anchors for client certificates, PEM. */
    readonly ca?: string | undefined;
    /** Lists of the authorities of client certificates, PEM or DER; `required`: a certificate without a current one is refused. */
    readonly revocation?: { readonly lists: readonly string[]; readonly required: boolean } | undefined;
  };
  readonly dtls: {
    /** Issue connection identifiers (RFC 9146), so that devices keep their associations when a NAT moves them. */
    readonly connectionId: "on" | "off";
    /** How a device whose address moved proves that it receives there (RFC 9853): `enhanced` asks its old address first. */
    readonly returnRoutabilityCheck: "none" | "basic" | "enhanced";
    /** The file that keeps the living associations over a restart; its key is beside it, in FILE.key. Default: none. */
    readonly associations?: string | undefined;
  };
  readonly interfaces: {
    readonly dpe1: {
      readonly listen: {
        readonly host: string;
        readonly coap?: number | undefined;
        readonly coaps?: number | undefined;
        /** CoAP over TCP and TLS (RFC 8323), for networks that block UDP. */
        readonly coapTcp?: number | undefined;
        readonly coapsTcp?: number | undefined;
      };
      readonly connection: ConnectionLevel;
      readonly clientAuthentication: readonly ClientAuthentication[];
      readonly digest: DigestConfig;
      /** Whoever else knows who a client is; for clientAuthentication `external`. */
      readonly external?: ExternalConfig | undefined;
    };
    readonly dpe2: {
      readonly connection: ConnectionLevel;
      readonly clientAuthentication: readonly ClientAuthentication[];
      readonly digest: DigestConfig;
      /** Addresses that a `dpe2` URI may name besides the sender's own. */
      readonly addresses: readonly string[];
    };
  };
  /** Credentials of 3GPP's bootstrapping, for clientAuthentication `digest`. */
  readonly gba?: GbaConfig | undefined;
  readonly subscribers: readonly SubscriberConfig[];
  /** Devices may be paired by one-time codes. */
  readonly pairing?: PairingConfig | undefined;
}

const connection = oneOf("none", "dtls");

/** The schema that a file is checked against. */
export const SERVER_SCHEMA: z.ZodType<ServerConfig, unknown> = section({
  ...OPERATION_SHAPE,
  realm: text().default("dpe"),
  timeOuts: oneOf(...ROUND_TRIP_ESTIMATIONS).default("none"),
  credentials: section({
    psk: listOf(pskSection()).default([]),
    certificate: path({ isReadableFile: true }).optional(),
    key: secretFile().optional(),
    renew: z.boolean().optional(),
    rawPublicKey: secretFile().optional(),
    ca: path({ isReadableFile: true }).optional(),
    revocation: section({
      lists: listOf(path({ isReadableFile: true }), { minItems: 1 }),
      required: z.boolean().default(true),
    }).optional(),
  })
    .refine((given) => given.revocation === undefined || given.ca !== undefined, "revocation needs ca")
    .refine(
      (given) => (given.certificate === undefined) === (given.key === undefined),
      "certificate and key go together",
    )
    .default({ psk: [] }),
  dtls: section({
    connectionId: oneOf("on", "off").default("on"),
    returnRoutabilityCheck: oneOf("none", "basic", "enhanced").default("basic"),
    associations: path().optional(),
  }).default({ connectionId: "on", returnRoutabilityCheck: "basic" }),
  interfaces: section({
    dpe1: section({
      listen: section({
        host: host().default("0.0.0.0"),
        coap: port().optional(),
        coaps: port().optional(),
        coapTcp: port().optional(),
        coapsTcp: port().optional(),
      }).refine(
        ({ coap, coaps, coapTcp, coapsTcp }) => [coap, coaps, coapTcp, coapsTcp].some((given) => given !== undefined),
        "needs a port: coap, coaps, coapTcp or coapsTcp",
      ),
      connection,
      clientAuthentication: listOf(oneOf(...CLIENT_AUTHENTICATIONS), { minItems: 1 }),
      digest: digestSection(),
      external: section({
        radius: RADIUS_SCHEMA.optional(),
        proxies: listOf(
          section({
            psk: text().optional(),
            certificate: text().optional(),
            address: ipPrefixBlock().optional(),
          }).refine(
            (proxy) => Object.values(proxy).filter((value) => value !== undefined).length === 1,
            "a proxy is known by one of psk, certificate and address",
          ),
        ).default([]),
      })
        .refine(({ radius, proxies }) => radius !== undefined || proxies.length > 0, "needs radius, proxies or both")
        .optional(),
    }).refine(
      (dpe1) => dpe1.external !== undefined || !dpe1.clientAuthentication.includes("external"),
      "clientAuthentication external needs the section external, with radius, proxies or both",
    ),
    dpe2: section({
      connection: connection.default("none"),
      clientAuthentication: listOf(oneOf("certificate", "rawPublicKey", "psk", "digest", "none"), {
        minItems: 1,
      }).default(["none"]),
      digest: digestSection(),
      addresses: listOf(host()).default([]),
    }).default({ connection: "none", clientAuthentication: ["none"], digest: DEFAULT_DIGEST, addresses: [] }),
  }),
  gba: gbaSection().optional(),
  subscribers: listOf(subscriberSection(subscriberIdentityBlock())).superRefine(refuseSameName).default([]),
  pairing: pairingSection().optional(),
})
  .superRefine(({ pairing, interfaces: { dpe1, dpe2 }, credentials }, context) => {
    const place = {
      dpe1Modes: dpe1.clientAuthentication,
      dpe2Modes: dpe2.clientAuthentication,
      hasCoaps: dpe1.listen.coaps !== undefined,
      hasCertificate: credentials.certificate !== undefined,
    };
    const problem = pairing && pairingFault(pairing, place);
    if (problem !== undefined) refuse(context, { problem }, ["pairing"]);
  })
  .superRefine(({ credentials, pairing }, context) => {
    if (credentials.renew !== true) return;
    const problem =
      credentials.certificate === undefined
        ? "renew needs certificate and key"
        : pairing?.ca === undefined
          ? "renew needs pairing.ca and pairing.key, the CA that issued the certificate"
          : undefined;
    if (problem !== undefined) refuse(context, { problem }, ["credentials", "renew"]);
  })
  .superRefine(({ realm, gba }, context) => {
    // TS 33.222 §5.3: the realm is how a client knows that its bootstrapped credential is asked for.
    if (gba === undefined || realm === gbaRealm(gba.naf)) return;
    refuse(
      context,
      {
        problem: "with gba, clients are challenged in the realm of the NAF",
        hint: `write realm: ${gbaRealm(gba.naf)}`,
      },
      ["realm"],
    );
  })
  .superRefine(refuseContradictions)
  .refine(
    ({ interfaces, credentials }) =>
      credentials.ca !== undefined ||
      ![...interfaces.dpe1.clientAuthentication, ...interfaces.dpe2.clientAuthentication].includes("certificate"),
    "clientAuthentication certificate needs credentials.ca",
  )
  .refine(
    ({ interfaces, credentials }) =>
      credentials.certificate !== undefined ||
      credentials.rawPublicKey !== undefined ||
      ![...interfaces.dpe1.clientAuthentication, ...interfaces.dpe2.clientAuthentication].includes("rawPublicKey"),
    "clientAuthentication rawPublicKey needs credentials.rawPublicKey, or a certificate: a pre-shared key has no part in it",
  )
  .refine(
    ({ interfaces, credentials, subscribers, pairing }) =>
      interfaces.dpe1.listen.coaps === undefined ||
      credentials.rawPublicKey !== undefined ||
      pairing !== undefined ||
      hasCredentials(credentials, subscribers),
    "coaps needs credentials: a certificate with its key, a rawPublicKey, or a psk",
  )
  .refine(
    ({ interfaces, credentials, subscribers }) =>
      interfaces.dpe1.listen.coapsTcp === undefined || hasCredentials(credentials, subscribers),
    "coapsTcp needs credentials: a certificate with its key, or a psk",
  );

/** The later one would silently stand for both. */
function refuseSameName(subscribers: readonly SubscriberConfig[], context: Parameters<typeof refuse>[0]): void {
  const seen = new Map<string, number>();
  for (const [index, { name }] of subscribers.entries()) {
    const first = seen.get(name);
    if (first === undefined) seen.set(name, index);
    else refuse(context, { problem: `item ${first} of this list has that name already` }, [index, "name"]);
  }
}

function hasCredentials(
  { certificate, psk }: ServerConfig["credentials"],
  subscribers: readonly SubscriberConfig[],
): boolean {
  return certificate !== undefined || psk.length > 0 || subscribers.some((subscriber) => subscriber.psk !== undefined);
}
