import { webcrypto } from "node:crypto";
import { isIP } from "node:net";
import type { JsonGeneralName, X509Certificate } from "@peculiar/x509";
import { X509Error } from "./errors.js";
import { peculiar } from "./peculiar.js";
import { loadCredentials } from "./pem.js";

/**
 * Makes, in memory, a certificate for a server or a client and the small CA that issues it: ECDSA on P-256 with SHA-256.
 * For a first start, a demo and tests: nothing protects the CA's key but the caller. Give the `authority` of an earlier
 * call to issue under the same CA.
 *
 * @throws X509Error X509_BAD_OPTION (rejects): an empty common name, a server without a name, an address that is none, a
 *   lifetime outside its range, an authority that does not load.
 */
export async function issueThrowawayCredentials(options: ThrowawayOptions): Promise<ThrowawayCredentials> {
  const { commonName, purpose, atMs, validityDays = DEFAULT_VALIDITY_DAYS } = options;
  const library = peculiar();
  if (commonName === "") throw badOption("the common name is empty");
  if (!(validityDays > 0 && validityDays <= MAX_VALIDITY_DAYS && Number.isFinite(atMs)))
    throw badOption("the lifetime is not within 0 to 3650 days, or the time unknown");
  const names = subjectAltNames(options);
  const validity = {
    // Clocks differ; a fresh certificate is to be valid at once.
    notBefore: new Date(atMs - CLOCK_SKEW_MS),
    notAfter: new Date(atMs + validityDays * DAY_MS),
  };
  const authorityNotAfter = new Date(atMs + (options.authorityValidityDays ?? validityDays) * DAY_MS);
  const authority =
    options.authority ?? (await createAuthority({ ...validity, notAfter: authorityNotAfter }, options.authorityName));
  const issuer = await loadAuthority(authority);
  const keys = await generateKeys();
  const certificate = await library.X509CertificateGenerator.create(
    {
      ...validity,
      subject: [{ CN: [commonName] }],
      issuer: issuer.certificate.subjectName,
      publicKey: keys.publicKey,
      signingKey: issuer.signingKey,
      signingAlgorithm: SIGNING_ALGORITHM,
      extensions: [
        new library.BasicConstraintsExtension(false, undefined, true),
        new library.KeyUsagesExtension(library.KeyUsageFlags.digitalSignature, true),
        new library.ExtendedKeyUsageExtension([library.ExtendedKeyUsage[purpose]]),
        await library.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
        await library.AuthorityKeyIdentifierExtension.create(issuer.certificate.publicKey, false, webcrypto),
        ...(names.length === 0 ? [] : [new library.SubjectAlternativeNameExtension(names)]),
      ],
    },
    webcrypto,
  );
  return {
    authority,
    certificatePem: `${certificate.toString("pem")}\n`,
    privateKeyPem: await exportPrivateKey(keys.privateKey),
  };
}

export interface ThrowawayOptions {
  /** Of the subject: a host or a subscriber; not empty. */
  readonly commonName: string;
  readonly purpose: "serverAuth" | "clientAuth";
  /** Wall-clock time, milliseconds since 1970. */
  readonly atMs: number;
  /** Days of validity from `atMs`, above 0, at most 3650; default 30. Too long outlives the demo, too short ends it. */
  readonly validityDays?: number;
  /** The same of a new CA; default as `validityDays`. */
  readonly authorityValidityDays?: number;
  /** subjectAltNames. A server needs at least one of `dns` and `ip`. */
  readonly dns?: readonly string[];
  readonly ip?: readonly string[];
  readonly uri?: readonly string[];
  /** What the name of a new CA begins with. Default "Throwaway CA". At most 27 characters. */
  readonly authorityName?: string;
  /** The CA to issue under; default a new one. */
  readonly authority?: ThrowawayAuthority;
}

/** A CA for throwaway certificates, PEM; its certificate is the anchor for the other end. */
export interface ThrowawayAuthority {
  readonly certificatePem: string;
  /** PKCS #8. A secret. */
  readonly privateKeyPem: string;
}

/** A certificate, its private key (PKCS #8, a secret) and the CA that issued it, PEM. */
export interface ThrowawayCredentials {
  readonly authority: ThrowawayAuthority;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

function subjectAltNames({ purpose, dns = [], ip = [], uri = [] }: ThrowawayOptions): JsonGeneralName[] {
  const address = ip.find((text) => isIP(text) === 0);
  if (address !== undefined) throw badOption(`${JSON.stringify(address)} is no IP address`);
  const text = [...dns, ...uri].find((value) => !/^[\x21-\x7e]+$/.test(value));
  if (text !== undefined) throw badOption(`${JSON.stringify(text)} is no DNS name or URI in ASCII`);
  if (purpose === "serverAuth" && dns.length + ip.length === 0)
    throw badOption("a server needs a DNS name or an address: clients ignore its common name (RFC 9525 §2)");
  return [
    ...dns.map((value) => ({ type: "dns", value }) as const),
    ...ip.map((value) => ({ type: "ip", value }) as const),
    ...uri.map((value) => ({ type: "url", value }) as const),
  ];
}

async function createAuthority(validity: Validity, name = "Throwaway CA"): Promise<ThrowawayAuthority> {
  const library = peculiar();
  const keys = await generateKeys();
  const certificate = await library.X509CertificateGenerator.createSelfSigned(
    {
      ...validity,
      // A name of its own for each, so that two throwaway CAs among the anchors are never taken for each other.
      name: [{ CN: [`${name} ${webcrypto.randomUUID()}`] }],
      keys,
      signingAlgorithm: SIGNING_ALGORITHM,
      extensions: [
        new library.BasicConstraintsExtension(true, 0, true),
        new library.KeyUsagesExtension(library.KeyUsageFlags.keyCertSign | library.KeyUsageFlags.cRLSign, true),
        await library.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { certificatePem: `${certificate.toString("pem")}\n`, privateKeyPem: await exportPrivateKey(keys.privateKey) };
}

async function loadAuthority(authority: ThrowawayAuthority): Promise<{
  readonly certificate: X509Certificate;
  readonly signingKey: webcrypto.CryptoKey;
}> {
  try {
    const { privateKey } = loadCredentials(authority.certificatePem, authority.privateKeyPem);
    const pkcs8 = privateKey.export({ type: "pkcs8", format: "der" });
    return {
      certificate: new (peculiar().X509Certificate)(authority.certificatePem),
      signingKey: await webcrypto.subtle.importKey("pkcs8", pkcs8, SIGNING_ALGORITHM, false, ["sign"]),
    };
  } catch (cause) {
    throw badOption("the authority does not load: give back what an earlier call returned", cause);
  }
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(SIGNING_ALGORITHM, true, ["sign", "verify"]);
}

async function exportPrivateKey(privateKey: webcrypto.CryptoKey): Promise<string> {
  const pkcs8 = new Uint8Array(await webcrypto.subtle.exportKey("pkcs8", privateKey));
  const { PemConverter } = peculiar();
  return PemConverter.encode(pkcs8, PemConverter.PrivateKeyTag) + "\n";
}

function badOption(message: string, cause?: unknown): X509Error {
  return new X509Error("X509_BAD_OPTION", message, cause === undefined ? undefined : { cause });
}

const SIGNING_ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DEFAULT_VALIDITY_DAYS = 30;
const MAX_VALIDITY_DAYS = 3650;
const DAY_MS = 86_400_000;
const CLOCK_SKEW_MS = 300_000;
