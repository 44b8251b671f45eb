import { createHash, X509Certificate, type KeyObject } from "node:crypto";
import type { Extension } from "@peculiar/x509";
import { DER_TAG, decodeDer, decodeDerSequence } from "./der.js";
import { decodeGeneralNames, type GeneralName } from "./general-name.js";
import { decodeNameConstraints, type NameConstraints } from "./name-constraints.js";
import { peculiar } from "./peculiar.js";

/**
 * A certificate that two parsers accepted: OpenSSL (by node:crypto, which verifies its signature and matches its name)
 * and @peculiar/x509 (fields and extensions). Every field that validation reads is here, parsed once.
 */
export interface Certificate {
  readonly der: Uint8Array;
  readonly native: X509Certificate;
  readonly publicKey: KeyObject;
  /** For people: the subject, RFC 4514 style. */
  readonly subject: string;
  readonly commonName: string | undefined;
  /** Of `serialText`. */
  readonly serialNumber: string;
  /** DER of the names; issuer and subject are matched byte by byte. */
  readonly subjectName: Uint8Array;
  readonly issuerName: Uint8Array;
  readonly isSelfIssued: boolean;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** The hash of the signature algorithm, or the whole algorithm where it has none of its own: "SHA-256", "Ed25519". */
  readonly signatureHash: string;
  readonly subjectAltNames: readonly GeneralName[];
  readonly isAuthority: boolean;
  readonly pathLength: number | undefined;
  /** A set of `KeyUsageFlags`; undefined where the extension is absent. */
  readonly keyUsage: number | undefined;
  /** Object identifiers; undefined where the extension is absent. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly nameConstraints: NameConstraints | undefined;
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
  readonly unknownCriticalExtension: string | undefined;
}

/** Parses one DER certificate; undefined where either parser refuses it. The result keeps a view of `der`. */
export function parseCertificate(der: Uint8Array): Certificate | undefined {
  try {
    return readCertificate(der);
  } catch {
    return undefined; // Whatever a parser threw, it is the peer's bytes that were wrong.
  }
}

/** Parses an anchor, once for each content; undefined where it is malformed. */
export function parseAnchor(der: Uint8Array): Certificate | undefined {
  const parsed = parsePeerCertificate(der);
  if (parsed !== undefined) keepParsed(parsed);
  return parsed;
}

/** As {@link parseCertificate}, of a copy, or what {@link keepParsed} kept of the same bytes. */
export function parsePeerCertificate(der: Uint8Array): Certificate | undefined {
  const key = keyOf(der);
  const kept = PARSED.get(key);
  if (kept === undefined) return parseCertificate(der.slice());
  PARSED.delete(key);
  PARSED.set(key, kept);
  return kept;
}

/**
 * Keeps what was parsed, of the last `MAX_PARSED` certificates in use, since parsing takes ten times as long as verifying a
 * signature. For those alone that are anchors, or whose path was verified: what nobody vouches for is not kept.
 */
export function keepParsed(certificate: Certificate): void {
  PARSED.set(keyOf(certificate.der), certificate);
  const oldest = PARSED.keys().next();
  if (PARSED.size > MAX_PARSED && oldest.done !== true) PARSED.delete(oldest.value);
}

function keyOf(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("base64");
}

/** Whether the issuer's key signed the certificate; OpenSSL also compares the two algorithm fields (RFC 5280 §4.1.1.2). */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  try {
    return certificate.native.verify(issuer.publicKey);
  } catch {
    return false; // A key of another kind than the signature.
  }
}

function readCertificate(der: Uint8Array): Certificate {
  const native = new X509Certificate(der);
  // node:crypto takes PEM too, and OpenSSL reads BER: only what encodes back to the same bytes is DER.
  if (!equalBytes(native.raw, der)) throw new RangeError("not a DER certificate");
  const library = peculiar();
  const parsed = new library.X509Certificate(der);
  const { serialNumber, issuerName, subjectName, extensions } = readTbsCertificate(der);
  const byType = new Map(extensions.map((extension) => [extension.type, extension]));
  // RFC 5280 §4.2: not more than one instance of an extension.
  if (byType.size !== extensions.length) throw new RangeError("an extension appears twice");
  const raw = (type: string): ArrayBuffer | undefined => byType.get(type)?.rawData;
  const value = (type: string): Uint8Array | undefined => {
    const extension = byType.get(type);
    return extension === undefined ? undefined : new Uint8Array(extension.value);
  };
  const basicConstraints = optional(
    raw(EXTENSION.basicConstraints),
    (der) => new library.BasicConstraintsExtension(der),
  );
  const [notBeforeMs, notAfterMs] = [parsed.notBefore.getTime(), parsed.notAfter.getTime()];
  if (Number.isNaN(notBeforeMs) || Number.isNaN(notAfterMs)) throw new RangeError("validity is not a time");
  const { pathLength } = basicConstraints ?? {};
  if (pathLength !== undefined && !(pathLength >= 0)) throw new RangeError("pathLenConstraint is negative");
  return {
    der,
    native,
    publicKey: native.publicKey,
    subject: parsed.subject,
    commonName: parsed.subjectName.getField("CN")[0],
    serialNumber,
    subjectName,
    issuerName,
    isSelfIssued: equalBytes(subjectName, issuerName),
    notBeforeMs,
    notAfterMs,
    signatureHash: signatureHashOf(parsed.signatureAlgorithm),
    subjectAltNames: optional(value(EXTENSION.subjectAltName), decodeGeneralNames) ?? [],
    isAuthority: basicConstraints?.ca ?? false,
    pathLength,
    keyUsage: optional(raw(EXTENSION.keyUsage), (der) => new library.KeyUsagesExtension(der).usages),
    extendedKeyUsage: optional(raw(EXTENSION.extKeyUsage), (der) =>
      new library.ExtendedKeyUsageExtension(der).usages.map(String),
    ),
    nameConstraints: optional(value(EXTENSION.nameConstraints), decodeNameConstraints),
    subjectKeyId: optional(
      raw(EXTENSION.subjectKeyIdentifier),
      (der) => new library.SubjectKeyIdentifierExtension(der).keyId,
    ),
    authorityKeyId: optional(
      raw(EXTENSION.authorityKeyIdentifier),
      (der) => new library.AuthorityKeyIdentifierExtension(der).keyId,
    ),
    unknownCriticalExtension: extensions.find(({ type, critical }) => critical && !PROCESSED_EXTENSIONS.has(type))
      ?.type,
  };
}

/**
 * Serial number, names and extensions of TBSCertificate (RFC 5280 §4.1). Extensions are split here, not by the library's getter, since
 * that refuses a certificate for an otherName in its subjectAltName (device certificates of IEEE 802.1AR have one).
 */
function readTbsCertificate(der: Uint8Array): {
  readonly serialNumber: string;
  readonly issuerName: Uint8Array;
  readonly subjectName: Uint8Array;
  readonly extensions: readonly Extension[];
} {
  const [tbs] = decodeDerSequence(decodeDer(der, DER_TAG.SEQUENCE).contents);
  if (tbs?.tag !== DER_TAG.SEQUENCE) throw new RangeError("no TBSCertificate");
  const fields = decodeDerSequence(tbs.contents);
  // version [0] is absent in version 1; then serialNumber, signature, issuer, validity, subject.
  const first = fields[0]?.tag === DER_TAG.CONTEXT_0 ? 1 : 0;
  const [serial, issuer, subject] = [fields[first], fields[first + 2], fields[first + 4]];
  if (serial?.tag !== DER_TAG.INTEGER) throw new RangeError("no serial number");
  if (issuer?.tag !== DER_TAG.SEQUENCE || subject?.tag !== DER_TAG.SEQUENCE) throw new RangeError("no names");
  const list = fields.find(({ tag }) => tag === DER_TAG.CONTEXT_3);
  const extensions = list === undefined ? [] : decodeDerSequence(decodeDer(list.contents, DER_TAG.SEQUENCE).contents);
  return {
    serialNumber: serialText(serial.contents),
    issuerName: issuer.bytes,
    subjectName: subject.bytes,
    extensions: extensions.map(({ bytes }) => new (peculiar().Extension)(bytes)),
  };
}

/**
 * A serial number as it is compared: lowercase hex without leading zeros. Some authorities leave out the zero that keeps
 * the number in a list positive: then it is meant all the same.
 */
export function serialText(contents: Uint8Array): string {
  return Buffer.from(contents)
    .toString("hex")
    .replace(/^(00)+(?=.)/, "");
}

function signatureHashOf(algorithm: object): string {
  if ("hash" in algorithm && typeof algorithm.hash === "object" && algorithm.hash !== null && "name" in algorithm.hash)
    return String(algorithm.hash.name);
  return "name" in algorithm ? String(algorithm.name) : "an unknown algorithm";
}

function optional<Input, Output>(input: Input | undefined, read: (input: Input) => Output): Output | undefined {
  return input === undefined ? undefined : read(input);
}

/** Whether two byte strings are the same; not for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

const PARSED = new Map<string, Certificate>();

/** Each takes some kB. */
export const MAX_PARSED = 256;

const EXTENSION = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  certificatePolicies: "2.5.29.32",
  authorityKeyIdentifier: "2.5.29.35",
  extKeyUsage: "2.5.29.37",
  inhibitAnyPolicy: "2.5.29.54",
} as const;

/**
 * What a critical extension may be. The two of policy are processed by accepting any policy (RFC 5280 §6.1.1 (c) to (g):
 * user-initial-policy-set is any-policy, no explicit policy required): only policyConstraints and policyMappings, which
 * are not here, could then refuse a path.
 */
const PROCESSED_EXTENSIONS: ReadonlySet<string> = new Set(Object.values(EXTENSION));
