import { isSignedBy, type Certificate } from "./certificate.js";
import type { Refusal } from "./certificate-fault.js";
import type { CertificatePath } from "./certificate-path.js";
import { emailAddressesOf } from "./directory-name.js";
import type { GeneralName } from "./general-name.js";
import { obeysNameConstraints, type NameConstraints } from "./name-constraints.js";
import { isListOf, type RevocationList } from "./revocation-list.js";

/** The revocation lists that an operator gave, and what their lack means. */
export interface RevocationPolicy {
  readonly lists: readonly RevocationList[];
  /** Whether every certificate below an anchor needs a list of its issuer that is not past its nextUpdate: fail closed. */
  readonly isRequired: boolean;
}

/** What the peer's certificate is for: that of a server, which a client verifies, or the other way round. */
export type CertificatePurpose = "serverAuth" | "clientAuth";

/**
 * Validates one path (RFC 5280 §6.1), from the anchor down to the peer's certificate; the refusal, or undefined.
 *
 * | For each certificate               | RFC 5280         |                                                        |
 * | ---------------------------------- | ---------------- | ------------------------------------------------------ |
 * | `refuseKey`                        | –                | RSA ≥ 2048 bits, or a listed curve                     |
 * | `refuseSignature`                  | §6.1.3 (a)(1)    | SHA-256 or better; verified by OpenSSL                 |
 * | `refuseTime`                       | §6.1.3 (a)(2)    | both ends are inside                                   |
 * | `refuseRevoked` (all but the last) | §6.1.3 (a)(3)    | by the lists that the operator gave                    |
 * | unknown critical extension         | §6.1.4 (o), §6.1.5 (f) |                                                  |
 * | name constraints of all above      | §6.1.3 (b), (c)  | a self-issued intermediate is exempt                   |
 * | `refuseIssuer` (all but the last)  | §6.1.4 (k) to (n)| cA, pathLenConstraint, keyCertSign                     |
 * | `refuseUsage`                      | §4.2.1.12        | extKeyUsage at every level, as OpenSSL and browsers do |
 *
 * Differs from RFC 5280 §6.1: an anchor is a certificate here, and obeys its own validity, key size, basicConstraints,
 * pathLenConstraint, name constraints and usages (RFC 5937); only its signature is not looked at.
 */
export function validatePath(
  path: CertificatePath,
  purpose: CertificatePurpose,
  atMs: number,
  revocation?: RevocationPolicy,
): Refusal | undefined {
  const constraints: NameConstraints[] = [];
  let pathLength = Number.POSITIVE_INFINITY;
  for (let index = path.length - 1; index >= 0; index--) {
    const certificate = path[index];
    if (certificate === undefined) break;
    const issuer = path[index + 1];
    const isPeer = index === 0;
    const refusal =
      refuseKey(certificate) ??
      (issuer === undefined ? undefined : refuseSignature(certificate, issuer)) ??
      refuseTime(certificate, atMs) ??
      (issuer === undefined || revocation === undefined
        ? undefined
        : refuseRevoked(certificate, issuer, revocation, atMs)) ??
      refuseExtension(certificate) ??
      (isPeer || !certificate.isSelfIssued ? refuseNames(certificate, constraints) : undefined) ??
      (isPeer ? undefined : refuseIssuer(certificate, pathLength, issuer === undefined)) ??
      refuseUsage(certificate, purpose, isPeer);
    if (refusal !== undefined) return refusal;
    if (issuer !== undefined && !certificate.isSelfIssued) pathLength--;
    pathLength = Math.min(pathLength, certificate.pathLength ?? pathLength);
    if (certificate.nameConstraints !== undefined) constraints.push(certificate.nameConstraints);
  }
  return undefined;
}

function refuseKey({ publicKey, subject }: Certificate): Refusal | undefined {
  const { modulusLength = 0, namedCurve = "" } = publicKey.asymmetricKeyDetails ?? {};
  const type = publicKey.asymmetricKeyType;
  const isStrong =
    type === "rsa" || type === "rsa-pss"
      ? modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS
      : type === "ec"
        ? STRONG_CURVES.has(namedCurve)
        : type === "ed25519" || type === "ed448";
  if (isStrong) return undefined;
  const size = modulusLength > 0 ? ` of ${modulusLength} bits` : namedCurve === "" ? "" : ` on ${namedCurve}`;
  return { cause: "weak-key", reason: `the ${type ?? "unknown"} key${size} of ${quote(subject)} is not accepted` };
}

function refuseSignature(certificate: Certificate, issuer: Certificate): Refusal | undefined {
  const { signatureHash, subject } = certificate;
  if (!STRONG_SIGNATURES.has(signatureHash))
    return { cause: "weak-signature", reason: `${quote(subject)} is signed with ${signatureHash}` };
  if (isSignedBy(certificate, issuer)) return undefined;
  return { cause: "bad-signature", reason: `${quote(issuer.subject)} did not sign ${quote(subject)}` };
}

function refuseTime({ notBeforeMs, notAfterMs, subject }: Certificate, atMs: number): Refusal | undefined {
  if (atMs < notBeforeMs)
    return {
      cause: "not-yet-valid",
      reason: `${quote(subject)} is valid from ${isoTime(notBeforeMs)} on${clock(atMs)}`,
    };
  // notAfter names a whole second, which is inside (§4.1.2.5). Negated, so that NaN is refused.
  if (!(atMs < notAfterMs + 1000))
    return { cause: "expired", reason: `${quote(subject)} was valid until ${isoTime(notAfterMs)}${clock(atMs)}` };
  return undefined;
}

/** A small machine without a battery starts with a wrong one. */
function clock(atMs: number): string {
  return Math.abs(atMs) <= MAX_DATE_MS ? `; the clock here says ${isoTime(atMs)}` : "";
}

/** ECMA-262: the greatest time of a Date. */
const MAX_DATE_MS = 8.64e15;

/** A list that names the certificate counts even when it is too old: revocation is for good. */
function refuseRevoked(
  certificate: Certificate,
  issuer: Certificate,
  { lists, isRequired }: RevocationPolicy,
  atMs: number,
): Refusal | undefined {
  const subject = quote(certificate.subject);
  const ofIssuer = lists.filter((list) => isListOf(list, issuer));
  if (ofIssuer.some(({ revoked }) => revoked.has(certificate.serialNumber)))
    return { cause: "revoked", reason: `${subject} was revoked by ${quote(issuer.subject)}` };
  if (!isRequired) return undefined;
  const newest = Math.max(...ofIssuer.map(({ nextUpdateMs }) => nextUpdateMs));
  const isCurrent = ofIssuer.some(({ thisUpdateMs, nextUpdateMs }) => thisUpdateMs <= atMs && atMs <= nextUpdateMs);
  if (isCurrent) return undefined;
  const lack = Number.isFinite(newest)
    ? `the list of its issuer ended at ${isoTime(newest)}`
    : "its issuer has no list";
  return { cause: "revocation-unknown", reason: `whether ${subject} was revoked is not known: ${lack}` };
}

function refuseExtension({ unknownCriticalExtension: type, subject }: Certificate): Refusal | undefined {
  if (type === undefined) return undefined;
  return { cause: "unknown-critical-extension", reason: `${quote(subject)} has the critical extension ${type}` };
}

function refuseNames(certificate: Certificate, constraints: readonly NameConstraints[]): Refusal | undefined {
  if (constraints.length === 0) return undefined;
  const names = constrainedNames(certificate);
  if (names !== undefined && constraints.every((each) => obeysNameConstraints(names, each))) return undefined;
  return {
    cause: "name-constraints",
    reason: `a name of ${quote(certificate.subject)} is outside its issuer's bounds`,
  };
}

/** Subject, subjectAltNames, and the subject's emailAddress where those hold no rfc822Name (§4.2.1.10). */
function constrainedNames({ subjectName, subjectAltNames }: Certificate): GeneralName[] | undefined {
  try {
    const names = [...subjectAltNames];
    // An empty subject (a SEQUENCE without contents) has nothing to constrain.
    if (subjectName.length > 2) names.push({ form: "directory", name: subjectName });
    if (!names.some(({ form }) => form === "email"))
      names.push(...emailAddressesOf(subjectName).map((value) => ({ form: "email", value }) as const));
    return names;
  } catch {
    return undefined;
  }
}

function refuseIssuer(certificate: Certificate, pathLength: number, isAnchor: boolean): Refusal | undefined {
  const { isAuthority, keyUsage, subject, isSelfIssued } = certificate;
  if (!isAuthority) return { cause: "not-a-ca", reason: `${quote(subject)} issued a certificate, but is no CA` };
  if (!isAnchor && !isSelfIssued && pathLength < 1)
    return { cause: "path-length", reason: `${quote(subject)} is deeper than pathLenConstraint allows` };
  if (keyUsage !== undefined && (keyUsage & KEY_USAGE.keyCertSign) === 0)
    return { cause: "wrong-key-usage", reason: `the key usage of ${quote(subject)} lacks keyCertSign` };
  return undefined;
}

function refuseUsage(certificate: Certificate, purpose: CertificatePurpose, isPeer: boolean): Refusal | undefined {
  const { extendedKeyUsage, keyUsage, subject } = certificate;
  // anyExtendedKeyUsage does not stand for it (§4.2.1.12 leaves that to the application).
  if (extendedKeyUsage !== undefined && !extendedKeyUsage.includes(PURPOSE[purpose]))
    return { cause: "wrong-usage", reason: `the extended key usage of ${quote(subject)} lacks ${purpose}` };
  // Both ends sign in every suite with certificates that we have (RFC 8422 §5.3, RFC 5246 §7.4.2).
  if (isPeer && keyUsage !== undefined && (keyUsage & KEY_USAGE.digitalSignature) === 0)
    return { cause: "wrong-key-usage", reason: `the key usage of ${quote(subject)} lacks digitalSignature` };
  return undefined;
}

/** A peer's text in a sentence: quoted, without control characters, and not at length. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

const MIN_RSA_BITS = 2048;
/** More would only cost time. */
const MAX_RSA_BITS = 8192;
const STRONG_CURVES: ReadonlySet<string> = new Set(["prime256v1", "secp384r1", "secp521r1"]);
const STRONG_SIGNATURES: ReadonlySet<string> = new Set(["SHA-256", "SHA-384", "SHA-512", "Ed25519", "Ed448"]);
const PURPOSE = { serverAuth: "1.3.6.1.5.5.7.3.1", clientAuth: "1.3.6.1.5.5.7.3.2" } as const;
/** Bits of `KeyUsageFlags` in @peculiar/x509 (its first is bit 0 of RFC 5280 §4.2.1.3). */
const KEY_USAGE = { digitalSignature: 1, keyCertSign: 32 } as const;
