import { generateKeyPair, type KeyObject, webcrypto } from "node:crypto";
import type { X509Certificate } from "@peculiar/x509";
import { equalBytes, parseCertificate, parsePeerCertificate } from "./certificate.js";
import { X509Error } from "./errors.js";
import { peculiar } from "./peculiar.js";
import { firstCertificate, loadCredentials } from "./pem.js";
import { signingAlgorithmOf, webSigningKey } from "./signing-key.js";

/** Issues certificates of clients under a CA's certificate and key. */
export class CertificateAuthority {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly #notAfterMs: number;
  readonly #parsed: X509Certificate;
  readonly #privateKey: KeyObject;

  /**
   * From PEM.
   *
   * @throws X509Error as `loadCredentials`; X509_BAD_OPTION for a certificate that is no CA's, or a key that is not on P-256
   * or P-384.
   */
  constructor(certificatePem: string, privateKeyPem: string) {
    const { chain, privateKey } = loadCredentials(firstCertificate(certificatePem), privateKeyPem);
    const certificate = chain[0] === undefined ? undefined : parseCertificate(chain[0]);
    if (
      certificate?.isAuthority !== true ||
      ((certificate.keyUsage ?? ALL) & peculiar().KeyUsageFlags.keyCertSign) === 0
    )
      throw new X509Error("X509_BAD_OPTION", "this certificate may not issue others: give that of a CA");
    signingAlgorithmOf(privateKey);
    this.certificate = certificate.der;
    this.#notAfterMs = certificate.notAfterMs;
    this.#parsed = new (peculiar().X509Certificate)(certificate.der.slice());
    this.#privateKey = privateKey;
  }

  /** Whether it is one of these anchors, DER. */
  isAmong(anchors: readonly Uint8Array[]): boolean {
    return anchors.some((anchor) => equalBytes(anchor, this.certificate));
  }

  /** A certificate for clientAuth, DER, never valid for longer than the CA's own. */
  async issueClient(options: ClientCertificateOptions): Promise<IssuedCertificate> {
    const { publicKey, uri, atMs, lifetimeMs } = options;
    const library = peculiar();
    const notAfterMs = Math.min(atMs + lifetimeMs, this.#notAfterMs);
    const spki = publicKey.export({ type: "spki", format: "der" });
    const key = await webcrypto.subtle.importKey("spki", spki, { name: "ECDSA", namedCurve: "P-256" }, true, [
      "verify",
    ]);
    const signingKey = await webSigningKey(this.#privateKey);
    const certificate = await library.X509CertificateGenerator.create(
      {
        // A fresh certificate is to be valid at once, though clocks differ.
        notBefore: new Date(atMs - Math.min(CLOCK_SKEW_MS, lifetimeMs / 10)),
        notAfter: new Date(notAfterMs),
        subject: [{ CN: [uri] }],
        issuer: this.#parsed.subjectName,
        publicKey: key,
        signingKey,
        signingAlgorithm: signingAlgorithmOf(this.#privateKey),
        extensions: [
          new library.BasicConstraintsExtension(false, undefined, true),
          new library.KeyUsagesExtension(library.KeyUsageFlags.digitalSignature, true),
          new library.ExtendedKeyUsageExtension([library.ExtendedKeyUsage.clientAuth]),
          await library.SubjectKeyIdentifierExtension.create(key, false, webcrypto),
          await library.AuthorityKeyIdentifierExtension.create(this.#parsed.publicKey, false, webcrypto),
          new library.SubjectAlternativeNameExtension([{ type: "url", value: uri }]),
        ],
      },
      webcrypto,
    );
    return { certificate: new Uint8Array(certificate.rawData), notAfterMs };
  }
}

export interface ClientCertificateOptions {
  /** On P-256. */
  readonly publicKey: KeyObject;
  /** Its subjectAltName and common name, such as urn:uuid:…; at most 64 characters. */
  readonly uri: string;
  /** Wall-clock time, ms since 1970. */
  readonly atMs: number;
  readonly lifetimeMs: number;
}

export interface IssuedCertificate {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly notAfterMs: number;
}

/** When a certificate is valid, ms since 1970; undefined for what is none. */
export function validityOf(der: Uint8Array): Omit<CertificateFacts, "subject"> | undefined {
  const parsed = parseCertificate(der);
  return parsed && { notBeforeMs: parsed.notBeforeMs, notAfterMs: parsed.notAfterMs };
}

/** As {@link validityOf}, with whose certificate it is. */
export function factsOf(der: Uint8Array): CertificateFacts | undefined {
  const parsed = parsePeerCertificate(der);
  return parsed && { subject: parsed.subject, notBeforeMs: parsed.notBeforeMs, notAfterMs: parsed.notAfterMs };
}

export interface CertificateFacts {
  /** For people. */
  readonly subject: string;
  /** Unix ms. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** A private key on P-256, PKCS #8 in PEM. A secret. */
export function generateKey(): Promise<string> {
  return new Promise((resolve, reject) =>
    generateKeyPair("ec", { namedCurve: "P-256" }, (error, _publicKey, privateKey) => {
      if (error === null) resolve(String(privateKey.export({ type: "pkcs8", format: "pem" })));
      else reject(error);
    }),
  );
}

/** DER certificates as PEM, in order. */
export function encodePemCertificates(certificates: readonly Uint8Array[]): string {
  return certificates
    .map((der) => {
      const lines =
        Buffer.from(der)
          .toString("base64")
          .match(/.{1,64}/g) ?? [];
      return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
    })
    .join("");
}

const ALL = -1;
const CLOCK_SKEW_MS = 300_000;
