import { type KeyObject, webcrypto } from "node:crypto";
import type { Extension, X509Certificate } from "@peculiar/x509";
import { equalBytes, isSignedBy, parseCertificate } from "./certificate.js";
import { X509Error } from "./errors.js";
import { peculiar } from "./peculiar.js";
import { firstCertificate, loadCredentials } from "./pem.js";
import { type SigningAlgorithm, signingAlgorithmOf, webSigningKey } from "./signing-key.js";

/**
 * A certificate like one that is there, valid for longer: same subject, names, usages and key, signed by the CA again. It is
 * valid from when that one was, since clocks of devices may be behind.
 *
 * @throws X509Error X509_BAD_OPTION (rejects) where the CA did not issue it; as `loadCredentials`.
 */
export async function renewCertificate(options: CertificateRenewalOptions): Promise<Uint8Array> {
  const { certificate, authorityPem, authorityKeyPem, notAfterMs, publicKey, isSuccessor = false } = options;
  const { parsed: issuer, privateKey } = loadAuthority(authorityPem, authorityKeyPem);
  const before = parsedOf(certificate);
  const [own, ca] = [parseCertificate(certificate), parseCertificate(new Uint8Array(issuer.rawData))];
  const isIssuer =
    own !== undefined &&
    ca !== undefined &&
    equalBytes(own.issuerName, ca.subjectName) &&
    (isSuccessor || isSignedBy(own, ca));
  if (!isIssuer)
    throw new X509Error("X509_BAD_OPTION", `${issuer.subject} did not issue the certificate of ${before.subject}`);
  const key = publicKey === undefined ? before.publicKey : await webPublicKey(publicKey);
  return sign({
    before,
    issuer,
    privateKey,
    key,
    notBefore: before.notBefore,
    notAfterMs: Math.min(notAfterMs, issuer.notAfter.getTime()),
  });
}

/**
 * The certificate of a CA again, valid for longer: same name and key, so that whatever it issued is valid under both.
 *
 * @throws as {@link renewCertificate}; X509_BAD_OPTION for a CA that another one issued.
 */
export async function renewAuthority(options: AuthorityRenewalOptions): Promise<Uint8Array> {
  const { parsed: before, privateKey } = loadAuthority(options.authorityPem, options.authorityKeyPem);
  if (before.subject !== before.issuer)
    throw new X509Error("X509_BAD_OPTION", `${before.subject} was issued by ${before.issuer}, who renews it`);
  const { notBefore, publicKey: key } = before;
  return sign({ before, issuer: before, privateKey, key, notBefore, notAfterMs: options.notAfterMs });
}

/**
 * A CA of the same name with a new key, in place of one (RFC 4210 §4.4): its own certificate, and one for it that the old key
 * signed ("new with old"), by which those who trust the old CA alone are led to what the new one issues.
 *
 * @throws as {@link renewAuthority}.
 */
export async function succeedAuthority(options: AuthorityRenewalOptions): Promise<AuthoritySuccession> {
  const { authorityPem, authorityKeyPem, notAfterMs } = options;
  const { parsed: before, privateKey } = loadAuthority(authorityPem, authorityKeyPem);
  const { subject, issuer } = before;
  if (subject !== issuer) throw new X509Error("X509_BAD_OPTION", `${subject} was issued by ${issuer}, who renews it`);
  const keys = await webcrypto.subtle.generateKey(NEW_KEY, true, ["sign", "verify"]);
  const pkcs8 = new Uint8Array(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
  const { PemConverter } = peculiar();
  const privateKeyPem = `${PemConverter.encode(pkcs8, PemConverter.PrivateKeyTag)}\n`;
  const common = { before, key: keys.publicKey, notBefore: before.notBefore };
  const certificate = await generate(
    { ...common, issuer: undefined, signingKey: keys.privateKey, notAfterMs },
    NEW_KEY,
  );
  const crossCertificate = await sign({
    ...common,
    issuer: before,
    privateKey,
    notAfterMs: before.notAfter.getTime(),
  });
  return { certificate, privateKeyPem, crossCertificate };
}

export interface CertificateRenewalOptions {
  /** DER. */
  readonly certificate: Uint8Array;
  /** Of the CA that issued it; the first certificate in the text counts. */
  readonly authorityPem: string;
  readonly authorityKeyPem: string;
  /** Until when the new one is valid, Unix ms; never for longer than the CA's own. */
  readonly notAfterMs: number;
  /** Default false. true: the CA has taken the place, and the name, of the one that issued it. */
  readonly isSuccessor?: boolean;
  /** Default: the key that it has. */
  readonly publicKey?: KeyObject;
}

export type AuthorityRenewalOptions = Pick<
  CertificateRenewalOptions,
  "authorityPem" | "authorityKeyPem" | "notAfterMs"
>;

export interface AuthoritySuccession {
  /** DER. */
  readonly certificate: Uint8Array;
  /** PKCS #8, PEM. A secret. */
  readonly privateKeyPem: string;
  /** DER; to be sent after the certificates that the new CA issues, for as long as anybody trusts the old one alone. */
  readonly crossCertificate: Uint8Array;
}

type PublicKey = X509Certificate["publicKey"] | webcrypto.CryptoKey;

interface Content {
  /** Whose subject and extensions it has. */
  readonly before: X509Certificate;
  readonly key: PublicKey;
  readonly notBefore: Date;
  readonly notAfterMs: number;
}

async function sign(
  content: Content & { readonly issuer: X509Certificate; readonly privateKey: KeyObject },
): Promise<Uint8Array> {
  const { privateKey } = content;
  return generate({ ...content, signingKey: await webSigningKey(privateKey) }, signingAlgorithmOf(privateKey));
}

/** Without an issuer it is signed by its own key. */
async function generate(
  content: Content & { readonly issuer: X509Certificate | undefined; readonly signingKey: webcrypto.CryptoKey },
  signingAlgorithm: SigningAlgorithm,
): Promise<Uint8Array> {
  const { before, issuer, key, signingKey, notBefore, notAfterMs } = content;
  const library = peculiar();
  const isOwnKeys = (extension: Extension): boolean => KEY_IDENTIFIERS.has(extension.type);
  const made = await library.X509CertificateGenerator.create(
    {
      notBefore,
      notAfter: new Date(notAfterMs),
      subject: before.subjectName,
      issuer: issuer?.subjectName ?? before.subjectName,
      publicKey: key,
      signingKey,
      signingAlgorithm,
      extensions: [
        ...before.extensions.filter((extension) => !isOwnKeys(extension)),
        await library.SubjectKeyIdentifierExtension.create(key, false, webcrypto),
        await library.AuthorityKeyIdentifierExtension.create(issuer?.publicKey ?? key, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return new Uint8Array(made.rawData);
}

function loadAuthority(
  certificatePem: string,
  privateKeyPem: string,
): { readonly parsed: X509Certificate; readonly privateKey: KeyObject } {
  const { chain, privateKey } = loadCredentials(firstCertificate(certificatePem), privateKeyPem);
  const [certificate] = chain;
  if (certificate === undefined || parseCertificate(certificate)?.isAuthority !== true)
    throw new X509Error("X509_BAD_OPTION", "this certificate may not issue others: give that of a CA");
  return { parsed: parsedOf(certificate), privateKey };
}

function parsedOf(der: Uint8Array): X509Certificate {
  return new (peculiar().X509Certificate)(der.slice());
}

async function webPublicKey(publicKey: KeyObject): Promise<webcrypto.CryptoKey> {
  const spki = publicKey.export({ type: "spki", format: "der" });
  return webcrypto.subtle.importKey("spki", spki, signingAlgorithmOf(publicKey), true, ["verify"]);
}

const NEW_KEY = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const KEY_IDENTIFIERS: ReadonlySet<string> = new Set(["2.5.29.14", "2.5.29.35"]);
