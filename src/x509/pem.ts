import { createPrivateKey, type KeyObject } from "node:crypto";
import { equalBytes, parseCertificate, type Certificate } from "./certificate.js";
import { X509Error } from "./errors.js";

/** What one end shows to the other: DER certificates, its own first, and the private key of that one. */
export interface Credentials {
  readonly chain: Uint8Array[];
  readonly privateKey: KeyObject;
}

/**
 * Reads a certificate chain and its private key from PEM, and checks that they belong together. `atMs` (Unix ms): that the
 * first certificate has not expired by then, too; not-yet-valid passes, since a clock may still be behind.
 *
 * @throws X509Error as `loadCertificateChain` and `loadPrivateKey`, X509_KEY_MISMATCH, and X509_EXPIRED.
 */
export function loadCredentials(certificatePem: string, privateKeyPem: string, atMs?: number): Credentials {
  const chain = loadCertificateChain(certificatePem);
  const privateKey = loadPrivateKey(privateKeyPem);
  const leaf = chain[0] === undefined ? undefined : parseCertificate(chain[0]);
  if (leaf?.native.checkPrivateKey(privateKey) !== true)
    throw new X509Error(
      "X509_KEY_MISMATCH",
      "the private key is not that of the first certificate: give the key that the certificate was requested with",
    );
  if (atMs !== undefined && leaf.notAfterMs < atMs)
    throw new X509Error(
      "X509_EXPIRED",
      `the certificate of ${leaf.subject} was valid until ${new Date(leaf.notAfterMs).toISOString()}: peers refuse it until it is renewed`,
    );
  return { chain, privateKey };
}

/**
 * Reads a chain to show to peers: our certificate first, each issued by the next (RFC 5246 §7.4.2); the root may be left
 * out. Text around the PEM blocks is skipped.
 *
 * @throws X509Error X509_NO_CERTIFICATE, X509_MALFORMED_CERTIFICATE, X509_CHAIN_OUT_OF_ORDER.
 */
export function loadCertificateChain(pem: string): Uint8Array[] {
  const certificates = parsedCertificates(pem);
  for (const [index, certificate] of certificates.entries()) {
    const issuer = certificates[index + 1];
    if (issuer === undefined || equalBytes(certificate.issuerName, issuer.subjectName)) continue;
    throw new X509Error(
      "X509_CHAIN_OUT_OF_ORDER",
      `certificate ${index + 2} (${issuer.subject}) did not issue certificate ${index + 1} (${certificate.subject}): ` +
        "put this host's certificate first and each issuer after what it issued",
    );
  }
  return certificates.map(({ der }) => der);
}

/**
 * Reads trust anchors, in any order.
 *
 * @throws X509Error X509_NO_CERTIFICATE, X509_MALFORMED_CERTIFICATE.
 */
export function loadTrustAnchors(pem: string): Uint8Array[] {
  return parsedCertificates(pem).map(({ der }) => der);
}

/**
 * Reads a private key that can sign in our suites, from PKCS #8, SEC 1 or PKCS #1.
 *
 * @throws X509Error X509_NO_PRIVATE_KEY, X509_ENCRYPTED_PRIVATE_KEY, X509_MALFORMED_PRIVATE_KEY,
 *   X509_UNSUPPORTED_PRIVATE_KEY.
 */
export function loadPrivateKey(pem: string): KeyObject {
  const block = /-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY)-----[^]*?-----END \1-----/.exec(pem);
  if (block === null)
    throw new X509Error(
      "X509_NO_PRIVATE_KEY",
      "there is no PRIVATE KEY block in the text: it is to be PEM, not DER and not the name of a file",
    );
  if (block[1] === "ENCRYPTED PRIVATE KEY" || block[0].includes("Proc-Type: 4,ENCRYPTED"))
    throw new X509Error(
      "X509_ENCRYPTED_PRIVATE_KEY",
      "the private key is encrypted: store it decrypted (openssl pkey -in KEY -out PLAIN) and readable by this service only",
    );
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(block[0]);
  } catch (cause) {
    throw new X509Error("X509_MALFORMED_PRIVATE_KEY", "the private key does not decode: copy the whole file again", {
      cause,
    });
  }
  const { namedCurve = "", modulusLength = 0 } = privateKey.asymmetricKeyDetails ?? {};
  const canSign =
    privateKey.asymmetricKeyType === "rsa"
      ? modulusLength >= 2048
      : privateKey.asymmetricKeyType === "ec" && ["prime256v1", "secp384r1", "secp521r1"].includes(namedCurve);
  if (!canSign)
    throw new X509Error(
      "X509_UNSUPPORTED_PRIVATE_KEY",
      `a private key of type ${privateKey.asymmetricKeyType ?? "unknown"} ${namedCurve}${modulusLength || ""} does not ` +
        "serve: use ECDSA on P-256, P-384 or P-521, or RSA of 2048 bits or more",
    );
  return privateKey;
}

/** The PEM of the first certificate alone: the file of a CA may hold those before it, which issued nothing in it. */
export function firstCertificate(pem: string): string {
  return /-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----\n?/.exec(pem)?.[0] ?? pem;
}

/**
 * The certificates of a PEM text as DER, in order; nothing but the encoding is checked, and none is an empty list.
 *
 * @throws X509Error X509_MALFORMED_CERTIFICATE where a block is not base64.
 */
export function decodePemCertificates(pem: string): Uint8Array[] {
  return [...pem.matchAll(/-----BEGIN CERTIFICATE-----([^]*?)-----END CERTIFICATE-----/g)].map((block, index) => {
    const base64 = (block[1] ?? "").replaceAll(/\s/g, "");
    if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) throw malformed(index);
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  });
}

function parsedCertificates(pem: string): Certificate[] {
  const blocks = decodePemCertificates(pem);
  if (blocks.length === 0)
    throw new X509Error(
      "X509_NO_CERTIFICATE",
      "there is no CERTIFICATE block in the text: it is to be PEM, not DER and not the name of a file",
    );
  return blocks.map((der, index) => {
    const certificate = parseCertificate(der);
    if (certificate === undefined) throw malformed(index);
    return certificate;
  });
}

function malformed(index: number): X509Error {
  return new X509Error(
    "X509_MALFORMED_CERTIFICATE",
    `certificate ${index + 1} does not decode: copy the whole file again, or ask its CA for it`,
  );
}
