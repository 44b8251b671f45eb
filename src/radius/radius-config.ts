import {
  duration,
  host,
  integer,
  ipPrefixBlock,
  listOf,
  oneOf,
  port,
  type Secret,
  secret,
  section,
} from "#config/index.js";
import type { IdentityForm } from "#dpe/index.js";
import { type IpPrefix, parseIpPrefix } from "#ip/index.js";
import { SecurityError, subscriberIdentity, type SubscriberIdentity } from "#security/index.js";
import type { z } from "zod";
import { type AccountingEvent, DEFAULT_ACCOUNTING_LIMITS } from "./accounting-server.js";
import { IDENTITY_ATTRIBUTES, type IdentityAttribute } from "./accounting-record.js";
import { RadiusListener } from "./radius-listener.js";

/** The section `radius` of a server's or a proxy's configuration. */
export interface RadiusConfig {
  readonly host: string;
  readonly listen: number;
  /** One secret for every source, where there are no clients. */
  readonly secret?: Secret | undefined;
  readonly clients: readonly { readonly address: IpPrefix; readonly secret: Secret }[];
  readonly identity: IdentityAttribute;
  readonly form: IdentityForm;
  readonly framedInterfaceId: "exact" | "prefix";
  readonly minPrefixLength: number;
  readonly sessionTimeout: number;
  readonly maxDelay: number;
  readonly maxSessions: number;
  readonly maxEndedSessions: number;
  readonly maxAddressesPerSession: number;
}

/** Its schema; defaults are those of the accounting server. */
export const RADIUS_SCHEMA: z.ZodType<RadiusConfig, unknown> = section({
  host: host().default("127.0.0.1"),
  listen: port().default(1813),
  secret: secret().optional(),
  clients: listOf(section({ address: ipPrefixBlock(), secret: secret() })).default([]),
  identity: oneOf(...IDENTITY_ATTRIBUTES),
  form: oneOf("msisdn", "imsi", "nai", "ip", "opaque"),
  framedInterfaceId: oneOf("exact", "prefix").default("exact"),
  minPrefixLength: integer({ min: 1, max: 128 }).default(48),
  sessionTimeout: duration({ minMs: 1000 }).default(DEFAULT_ACCOUNTING_LIMITS.sessionTimeoutMs),
  maxDelay: duration({ minMs: 1000 }).default(DEFAULT_ACCOUNTING_LIMITS.maxDelayMs),
  maxSessions: integer({ min: 1 }).default(DEFAULT_ACCOUNTING_LIMITS.maxSessions),
  maxEndedSessions: integer({ min: 1 }).default(DEFAULT_ACCOUNTING_LIMITS.maxEndedSessions),
  maxAddressesPerSession: integer({ min: 1 }).default(DEFAULT_ACCOUNTING_LIMITS.maxAddressesPerSession),
}).refine(
  (given) => (given.secret === undefined) === given.clients.length > 0,
  "give either clients, each with its secret, or one secret for every source",
);

/** Listens as configured. @throws NetError NET_PORT_IN_USE and those of binding. */
export function listenForAccounting(
  config: RadiusConfig,
  onEvent: (event: AccountingEvent) => void,
): Promise<RadiusListener<SubscriberIdentity>> {
  const { secret: common, sessionTimeout, maxDelay, maxSessions, maxEndedSessions, maxAddressesPerSession } = config;
  const clients = common === undefined ? config.clients : everywhere(common);
  return RadiusListener.listen(
    { host: config.host, port: config.listen },
    {
      clients: clients.map(({ address, secret: ofClient }) => ({ address, secret: ofClient.reveal() })),
      identity: config.identity,
      identify: (value) => identityOf(config.form, value),
      interfaceId: config.framedInterfaceId,
      minPrefixLength: config.minPrefixLength,
      limits: {
        sessionTimeoutMs: sessionTimeout,
        maxDelayMs: maxDelay,
        maxSessions,
        maxEndedSessions,
        maxAddressesPerSession,
      },
    },
    onEvent,
  );
}

function everywhere(common: Secret): RadiusConfig["clients"] {
  return ["0.0.0.0/0", "::/0"].flatMap((text) => {
    const address = parseIpPrefix(text);
    return address === undefined ? [] : [{ address, secret: common }];
  });
}

function identityOf(form: IdentityForm, value: string): SubscriberIdentity | undefined {
  try {
    return subscriberIdentity(form, value);
  } catch (error) {
    if (error instanceof SecurityError) return undefined;
    throw error;
  }
}
