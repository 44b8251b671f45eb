import { fingerprint, listOf, oneOf, type Secret, secret, section, text } from "#config/index.js";
import {
  createStoredCredential,
  DIGEST_HASH_BYTES,
  DIGEST_HASHES,
  type DigestAlgorithm,
  type DigestHash,
  hashOf,
  type StoredCredential,
} from "#digest/index.js";
import { type InterfaceName, PAIRING_IDENTITY_PREFIX } from "#dpe/index.js";
import type { Subscriber, SubscriberIdentity } from "#security/index.js";
import * as z from "zod";

/** One subscriber, as a configuration has it. */
export interface SubscriberConfig {
  readonly name: string;
  readonly password?: Secret | undefined;
  /** In place of a password: HA1 values in the server's realm, by hash; `dpe ha1` computes them. */
  readonly ha1?: Readonly<Partial<Record<DigestHash, Secret | undefined>>> | undefined;
  readonly psk?: PskConfig | undefined;
  /** Names in client certificates: subjectAltNames, or the common name. */
  readonly certificates?: readonly string[] | undefined;
  /** Fingerprints of public keys that stand for it: raw, or of certificates. */
  readonly keys?: readonly string[] | undefined;
  /** What it is to functions outside of DPE, such as `imsi:001010123456789`. */
  readonly identities?: readonly SubscriberIdentity[] | undefined;
  readonly endpoints?: readonly string[] | undefined;
  /** Beginnings of property names. */
  readonly properties?: readonly string[] | undefined;
  readonly interfaces?: readonly InterfaceName[] | undefined;
  /** Known, and let in nowhere; as `dpe subscriber ban` does until it is lifted. */
  readonly banned?: boolean | undefined;
}

export interface PskConfig {
  readonly identity: string;
  readonly key: Secret;
}

export function pskSection(): z.ZodType<PskConfig, unknown> {
  const identity = text().refine(
    (given) => !given.startsWith(PAIRING_IDENTITY_PREFIX),
    `${PAIRING_IDENTITY_PREFIX}… are the identities of pairing codes`,
  );
  return section({ identity, key: secret() });
}

/** One that no name begins with would forbid all. */
const propertyPrefix = text().refine(
  (given) => /^[A-Za-z0-9][A-Za-z0-9:._/-]*$/.test(given) && !given.endsWith("/"),
  "expected the beginning of property names in whole segments, such as kitchen or kitchen/oven, without * or a / at the end",
);

/** The schema of one subscriber; `identity` is that of its identities outside of DPE. */
export function subscriberSection(
  identity: z.ZodType<SubscriberIdentity, unknown>,
): z.ZodType<SubscriberConfig, unknown> {
  return section({
    name: text().refine((name) => !name.includes(":"), "a name holds no colon: it is the username of Digest"),
    password: secret().optional(),
    ha1: section({
      "SHA-512-256": ha1("SHA-512-256").optional(),
      "SHA-256": ha1("SHA-256").optional(),
      MD5: ha1("MD5").optional(),
    })
      .refine((given) => Object.values(given).some((value) => value !== undefined), "needs an HA1 of at least one hash")
      .optional(),
    psk: pskSection().optional(),
    certificates: listOf(text(), { minItems: 1 }).optional(),
    keys: listOf(fingerprint(), { minItems: 1 }).optional(),
    identities: listOf(identity, { minItems: 1 }).optional(),
    endpoints: listOf(text(), { minItems: 1 }).optional(),
    properties: listOf(propertyPrefix, { minItems: 1 }).optional(),
    interfaces: listOf(oneOf("dpe1", "dpe2")).optional(),
    banned: z.boolean().optional(),
  }).refine(
    ({ password, ha1: values }) => password === undefined || values === undefined,
    "password and ha1 exclude each other",
  );
}

/** @throws DigestError DIGEST_BAD_USERNAME. */
export function toSubscriber(
  config: SubscriberConfig,
  realm: string,
  algorithms: readonly DigestAlgorithm[],
): Subscriber {
  const { name, psk, certificates, keys, identities, endpoints, properties, interfaces } = config;
  const digest = credentialOf(config, realm, algorithms);
  return {
    name,
    ...(digest === undefined ? {} : { digest }),
    ...(psk === undefined ? {} : { psk: { identity: TEXT_ENCODER.encode(psk.identity), key: psk.key.reveal() } }),
    ...(certificates === undefined ? {} : { certificateNames: certificates }),
    ...(keys === undefined ? {} : { keyFingerprints: keys }),
    ...(identities === undefined ? {} : { identities }),
    ...(endpoints === undefined ? {} : { endpoints }),
    ...(properties === undefined ? {} : { properties }),
    ...(interfaces === undefined ? {} : { interfaces }),
  };
}

function credentialOf(
  { name, password, ha1: values }: SubscriberConfig,
  realm: string,
  algorithms: readonly DigestAlgorithm[],
): StoredCredential | undefined {
  if (password !== undefined) {
    const hashes = [...new Set(algorithms.map((algorithm) => hashOf(algorithm)))];
    return createStoredCredential({ username: name, realm, password: password.text() }, hashes);
  }
  if (values === undefined) return undefined;
  const { username } = createStoredCredential({ username: name, realm, password: "" }, []);
  const given = DIGEST_HASHES.flatMap((hash) => {
    const value = values[hash];
    return value === undefined ? [] : [[hash, ha1Bytes(value)] as const];
  });
  return { username, realm, ha1: Object.fromEntries(given) };
}

/** An HA1 as bytes (`hex:…`), or as the hex text that existing databases and `file:` have. */
function ha1(hash: DigestHash): z.ZodType<Secret, unknown> {
  return secret().refine(
    (value) => ha1Bytes(value).length === DIGEST_HASH_BYTES[hash],
    `an HA1 of ${hash} has ${DIGEST_HASH_BYTES[hash]} bytes, ${2 * DIGEST_HASH_BYTES[hash]} hex digits`,
  );
}

function ha1Bytes(value: Secret): Uint8Array {
  const bytes = value.reveal();
  // `dpe ha1 … > FILE` leaves the word before the digits.
  const written = new TextDecoder().decode(bytes).trim().replace(/^hex:/, "");
  return /^([0-9a-fA-F]{2}){16,}$/.test(written) ? Uint8Array.from(Buffer.from(written, "hex")) : bytes;
}

const TEXT_ENCODER = new TextEncoder();
