import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Secret } from "#config/index.js";
import { replaceFile } from "#files/index.js";
import {
  encodePemCertificates,
  factsOf,
  firstCertificate,
  generateKey,
  loadCertificateChain,
  loadCredentials,
  loadTrustAnchors,
  renewAuthority,
  renewCertificate,
  succeedAuthority,
  X509Error,
} from "#x509/index.js";
import type { ServerConfig } from "./server-config.js";

/**
 * Renews the certificates that a server was given by `dpe init`, in their files, which a running server reads again by
 * itself: its own, signed by the CA that pairs devices, and that CA's.
 *
 * | what | key | devices that were paired before |
 * |---|---|---|
 * | server certificate | stays, or a new one | see nothing of it |
 * | CA, `renew` | stays | go on; they get the new certificate to trust when they ask, every week |
 * | CA, `succeed` | a new one | go on, led to it by the certificate that the old key signed for the new one; from when they have asked they trust it by itself |
 *
 * Invariant: after each file that is written the server can be started, and devices that trust the old CA alone accept it;
 * but for the moment between the CA's key and its certificate.
 */
export class CertificateFiles {
  readonly #certificate: string;
  readonly #key: Secret;
  readonly #authority: string;
  readonly #authorityKey: Secret;
  /** Every file with the CA among its anchors, the CA's own first. */
  readonly #anchors: readonly string[];

  /** @throws X509Error X509_BAD_OPTION where the configuration has no certificate, or no CA with a key, of its own. */
  constructor({ credentials, pairing }: ServerConfig) {
    const { certificate, key, ca } = credentials;
    if (certificate === undefined || key === undefined)
      throw new X509Error("X509_BAD_OPTION", "credentials.certificate and its key are not set: there is none to renew");
    if (pairing?.ca === undefined || pairing.key === undefined)
      throw new X509Error(
        "X509_BAD_OPTION",
        "pairing.ca and pairing.key are not set: whoever issued the server's certificate renews it",
      );
    this.#certificate = certificate;
    this.#key = key;
    this.#authority = pairing.ca;
    this.#authorityKey = pairing.key;
    this.#anchors = [...new Set([pairing.ca, ...[ca, pairing.anchors].filter((file) => file !== undefined)])];
  }

  /** How they are now. @throws X509Error as `loadCertificateChain`; errors of the file system. */
  ends(): { readonly server: number; readonly authority: number } {
    return { server: endOf(this.#certificate), authority: endOf(this.#authority) };
  }

  /**
   * Gives until when the new one is valid. Its names stay.
   *
   * @throws X509Error X509_BAD_OPTION where the CA did not issue it; errors of the file system.
   */
  async renewServer({ notAfterMs, hasNewKey = false }: RenewalTerms, now: number): Promise<number> {
    const text = read(this.#certificate);
    const [before = NO_BYTES, ...above] = loadCertificateChain(text);
    const made = hasNewKey ? await generateKey() : undefined;
    const certificate = await renewCertificate({
      certificate: before,
      authorityPem: read(this.#authority),
      authorityKeyPem: this.#authorityKey.text(),
      notAfterMs,
      ...(made === undefined ? {} : { publicKey: createPublicKey(made) }),
    });
    this.#write(certificate, above, made, now);
    return factsOf(certificate)?.notAfterMs ?? 0;
  }

  /** The CA's certificate again, for the same key. @throws as {@link renewServer}. */
  async renewAuthority(notAfterMs: number): Promise<number> {
    const authorityPem = read(this.#authority);
    const certificate = await renewAuthority({
      authorityPem,
      authorityKeyPem: this.#authorityKey.text(),
      notAfterMs,
    });
    // Whatever the old one vouches for, this one does too.
    this.#replaceAnchor(authorityPem, () => [certificate]);
    return notAfterMs;
  }

  /**
   * A CA with a new key in place of the one that is there, whose certificate stays among the anchors; and a server
   * certificate of the new one. The old key is kept in a file of its name with `.old`.
   *
   * @throws as {@link renewServer}; X509_BAD_OPTION where the CA's key, or the server's, is in no file.
   */
  async succeedAuthority(terms: RenewalTerms & { readonly authorityNotAfterMs: number }, now: number): Promise<number> {
    const authorityPem = read(this.#authority);
    const authorityKeyPem = this.#authorityKey.text();
    const keyFile = fileOf(this.#authorityKey, "pairing.key");
    const { certificate, privateKeyPem, crossCertificate } = await succeedAuthority({
      authorityPem,
      authorityKeyPem,
      notAfterMs: terms.authorityNotAfterMs,
    });
    const [before = NO_BYTES] = loadCertificateChain(read(this.#certificate));
    const made = terms.hasNewKey === true ? await generateKey() : undefined;
    // Signed by the old key once more, to show that this CA issued what it takes the place of; then by the new one.
    await renewCertificate({ certificate: before, authorityPem, authorityKeyPem, notAfterMs: terms.notAfterMs });
    const own = await renewCertificate({
      certificate: before,
      authorityPem: encodePemCertificates([certificate]),
      authorityKeyPem: privateKeyPem,
      notAfterMs: terms.notAfterMs,
      isSuccessor: true,
      ...(made === undefined ? {} : { publicKey: createPublicKey(made) }),
    });
    // Who trusts the old CA alone is led to the new one; who trusts the new one needs nothing of that.
    this.#write(own, [crossCertificate], made, now);
    replaceFile(`${keyFile}.old`, authorityKeyPem);
    replaceFile(keyFile, privateKeyPem);
    this.#replaceAnchor(authorityPem, (old) => [certificate, old]);
    return terms.authorityNotAfterMs;
  }

  #write(certificate: Uint8Array, above: readonly Uint8Array[], newKey: string | undefined, now: number): void {
    const current = above.filter((der) => (factsOf(der)?.notAfterMs ?? 0) > now);
    const text = encodePemCertificates([certificate, ...current]);
    const keyPem = newKey ?? this.#key.text();
    loadCredentials(text, keyPem, now);
    if (newKey !== undefined) replaceFile(fileOf(this.#key, "credentials.key"), newKey);
    replaceFile(this.#certificate, text);
  }

  #replaceAnchor(authorityPem: string, replacement: (old: Uint8Array) => readonly Uint8Array[]): void {
    const [old = NO_BYTES] = loadTrustAnchors(firstCertificate(authorityPem));
    for (const file of this.#anchors) {
      const anchors = loadTrustAnchors(read(file));
      const isOld = (der: Uint8Array): boolean => Buffer.compare(der, old) === 0;
      if (!anchors.some((der) => isOld(der))) continue;
      const next = anchors.flatMap((der) => (isOld(der) ? replacement(old) : [der]));
      replaceFile(file, encodePemCertificates(next));
    }
  }
}

export interface RenewalTerms {
  /** Until when it is to be valid, ms since 1970; never for longer than its CA. */
  readonly notAfterMs: number;
  /** Default false. true: a new key too, for which devices must not know the old one by its fingerprint. */
  readonly hasNewKey?: boolean;
}

/** How long what is renewed is valid, and when that is due: with a third of it left. */
export const RENEWED_FOR_MS: { readonly server: number; readonly authority: number } = {
  server: 730 * 86_400_000,
  authority: 3650 * 86_400_000,
};

/** Renews by itself what is due; gives what that is, with its end. @throws as {@link CertificateFiles}. */
export async function renewWhatIsDue(
  files: CertificateFiles,
  now: number,
): Promise<readonly { readonly role: "server" | "pairing-ca"; readonly validUntil: number }[]> {
  const { server, authority } = files.ends();
  const renewed: { readonly role: "server" | "pairing-ca"; readonly validUntil: number }[] = [];
  if (authority - now <= RENEWED_FOR_MS.authority / 3)
    renewed.push({ role: "pairing-ca", validUntil: await files.renewAuthority(now + RENEWED_FOR_MS.authority) });
  if (server - now <= RENEWED_FOR_MS.server / 3)
    renewed.push({
      role: "server",
      validUntil: await files.renewServer({ notAfterMs: now + RENEWED_FOR_MS.server }, now),
    });
  return renewed;
}

function endOf(file: string): number {
  const [leaf = NO_BYTES] = loadTrustAnchors(firstCertificate(read(file)));
  return factsOf(leaf)?.notAfterMs ?? 0;
}

function fileOf({ path }: Secret, key: string): string {
  if (path === undefined) throw new X509Error("X509_BAD_OPTION", `${key} is in no file: a new key cannot be written`);
  return path;
}

function read(file: string): string {
  return readFileSync(file, "utf8");
}

const NO_BYTES = new Uint8Array(0);
