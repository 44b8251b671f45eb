import { verify } from "node:crypto";
import { equalBytes, serialText, type Certificate } from "./certificate.js";
import { DER_TAG, decodeDer, decodeDerSequence, type DerElement } from "./der.js";
import { X509Error } from "./errors.js";

/** A complete certificate revocation list of one issuer (RFC 5280 §5), its signature not looked at yet. */
export interface RevocationList {
  /** DER of the issuer's name. */
  readonly issuerName: Uint8Array;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** Serial numbers, of `serialText`. */
  readonly revoked: ReadonlySet<string>;
  readonly signed: Uint8Array;
  readonly signatureAlgorithm: string;
  readonly signature: Uint8Array;
}

/**
 * Reads the lists of a file: one in DER, or any number in PEM. Their signatures are checked when a path shows the issuer.
 *
 * @throws X509Error X509_NO_CRL, X509_MALFORMED_CRL, X509_UNSUPPORTED_CRL.
 */
export function loadRevocationLists(file: Uint8Array): RevocationList[] {
  if (file[0] === DER_TAG.SEQUENCE) return [parseRevocationList(file)];
  const text = new TextDecoder().decode(file);
  const blocks = [...text.matchAll(/-----BEGIN X509 CRL-----([^]*?)-----END X509 CRL-----/g)];
  if (blocks.length === 0)
    throw new X509Error("X509_NO_CRL", "there is no X509 CRL block in the text, and it is not DER");
  return blocks.map((block) => {
    const base64 = (block[1] ?? "").replaceAll(/\s/g, "");
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) throw malformed();
    return parseRevocationList(Uint8Array.from(Buffer.from(base64, "base64")));
  });
}

/** Whether this issuer's key signed the list, and the issuer may sign lists (RFC 5280 §6.3.3 (f), (g)). */
export function isListOf(list: RevocationList, issuer: Certificate): boolean {
  if (!equalBytes(list.issuerName, issuer.subjectName)) return false;
  const known = verified.get(list)?.get(issuer);
  if (known !== undefined) return known;
  const result = maySignLists(issuer) && isSigned(list, issuer);
  let ofList = verified.get(list);
  if (ofList === undefined) verified.set(list, (ofList = new WeakMap()));
  ofList.set(issuer, result);
  return result;
}

function isSigned(list: RevocationList, issuer: Certificate): boolean {
  const algorithm = SIGNATURE_ALGORITHMS.get(list.signatureAlgorithm);
  if (algorithm === undefined || issuer.publicKey.asymmetricKeyType !== algorithm.key) return false;
  try {
    return verify(algorithm.hash, list.signed, issuer.publicKey, list.signature);
  } catch {
    return false;
  }
}

function maySignLists({ keyUsage, isAuthority }: Certificate): boolean {
  return isAuthority && (keyUsage === undefined || (keyUsage & CRL_SIGN) !== 0);
}

function parseRevocationList(der: Uint8Array): RevocationList {
  try {
    return readRevocationList(der);
  } catch (cause) {
    throw cause instanceof X509Error ? cause : malformed(cause);
  }
}

function readRevocationList(der: Uint8Array): RevocationList {
  const [signed, algorithm, signature] = decodeDerSequence(decodeDer(der, DER_TAG.SEQUENCE).contents);
  if (signed?.tag !== DER_TAG.SEQUENCE || algorithm === undefined || signature?.tag !== BIT_STRING)
    throw new RangeError("no CertificateList");
  const fields = decodeDerSequence(signed.contents);
  // Version 1, without extensions, has no version field.
  if (fields[0]?.tag === DER_TAG.INTEGER) fields.shift();
  const [inner, issuer, thisUpdate, nextUpdate, ...rest] = fields;
  if (inner === undefined || issuer?.tag !== DER_TAG.SEQUENCE || !equalBytes(inner.bytes, algorithm.bytes))
    throw new RangeError("no TBSCertList");
  const extensions = rest.find(({ tag }) => tag === DER_TAG.CONTEXT_0);
  if (extensions !== undefined) refuseExtensions(decodeDer(extensions.contents, DER_TAG.SEQUENCE));
  const entries = rest.find(({ tag }) => tag === DER_TAG.SEQUENCE);
  return {
    issuerName: issuer.bytes,
    thisUpdateMs: timeOf(thisUpdate),
    // RFC 5280 §5.1.2.5: always there; without it nobody knows when a list is too old.
    nextUpdateMs: timeOf(nextUpdate),
    revoked: new Set(entries === undefined ? [] : decodeDerSequence(entries.contents).map(serialOf)),
    signed: signed.bytes,
    signatureAlgorithm: hexOf(decodeDerSequence(algorithm.contents)[0]),
    signature: signature.contents.subarray(1),
  };
}

function serialOf(entry: DerElement): string {
  const [serial, , extensions] = decodeDerSequence(entry.contents);
  if (entry.tag !== DER_TAG.SEQUENCE || serial?.tag !== DER_TAG.INTEGER) throw new RangeError("no revoked certificate");
  if (extensions !== undefined) refuseExtensions(extensions);
  return serialText(serial.contents);
}

/** A list with a critical extension says less than it seems to: of another issuer, of some certificates, or of changes. */
function refuseExtensions({ contents }: DerElement): void {
  for (const extension of decodeDerSequence(contents)) {
    const [type, critical] = decodeDerSequence(extension.contents);
    const isCritical = critical?.tag === BOOLEAN && critical.contents[0] !== 0;
    if (!isCritical) continue;
    throw new X509Error(
      "X509_UNSUPPORTED_CRL",
      `the list has the critical extension ${hexOf(type)}: give a complete list of one issuer, no delta, indirect or partial one`,
    );
  }
}

/** UTCTime or GeneralizedTime, in the forms that RFC 5280 §5.1.2.4 allows. */
function timeOf(element: DerElement | undefined): number {
  const text = element === undefined ? "" : String.fromCharCode(...element.contents);
  const isUtc = element?.tag === UTC_TIME;
  if (!isUtc && element?.tag !== GENERALIZED_TIME) throw new RangeError("no time");
  const match = (isUtc ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).exec(
    text,
  );
  if (match === null) throw new RangeError("no time");
  const [year = 0, month = 0, ...others] = match.slice(1).map(Number);
  const [day = 0, hour = 0, minute = 0, second = 0] = others;
  const century = isUtc ? (year < 50 ? 2000 : 1900) : 0;
  return Date.UTC(century + year, month - 1, day, hour, minute, second);
}

function hexOf(element: DerElement | undefined): string {
  return element === undefined ? "" : Buffer.from(element.contents).toString("hex");
}

function malformed(cause?: unknown): X509Error {
  return new X509Error("X509_MALFORMED_CRL", "the revocation list does not decode: fetch it again from its CA", {
    cause,
  });
}

/** Verified once for each list and issuer. */
const verified = new WeakMap<RevocationList, WeakMap<Certificate, boolean>>();

/** By the DER of their object identifiers: those of `STRONG_SIGNATURES`, without RSASSA-PSS. */
const SIGNATURE_ALGORITHMS: ReadonlyMap<string, { readonly key: string; readonly hash: string | null }> = new Map([
  ["2a8648ce3d040302", { key: "ec", hash: "sha256" }],
  ["2a8648ce3d040303", { key: "ec", hash: "sha384" }],
  ["2a8648ce3d040304", { key: "ec", hash: "sha512" }],
  ["2a864886f70d01010b", { key: "rsa", hash: "sha256" }],
  ["2a864886f70d01010c", { key: "rsa", hash: "sha384" }],
  ["2a864886f70d01010d", { key: "rsa", hash: "sha512" }],
  ["2b6570", { key: "ed25519", hash: null }],
  ["2b6571", { key: "ed448", hash: null }],
]);
/** Bit of `KeyUsageFlags` in @peculiar/x509. */
const CRL_SIGN = 64;
const BOOLEAN = 0x01;
const BIT_STRING = 0x03;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
