import { isSignedBy, keepParsed, parseAnchor, parsePeerCertificate, type Certificate } from "./certificate.js";
import {
  CERTIFICATE_FAULT_ALERTS,
  type CertificateFault,
  type CertificateFaultAlert,
  type Refusal,
} from "./certificate-fault.js";
import { candidatePaths } from "./certificate-path.js";
import { subjectAltNamesOf, type SubjectAltName } from "./general-name.js";
import { quote, validatePath, type CertificatePurpose, type RevocationPolicy } from "./path-validation.js";
import { isNamedBy, type PeerName } from "./peer-name.js";

/**
 * Verifies the certificates of a DTLS peer: a path to one of our anchors (RFC 5280 §6) for the purpose, and the name that
 * was dialled (RFC 9525). Never rejects: whatever the peer sent, the answer is a verdict. Revocation is looked up in
 * the lists that are given, never fetched.
 *
 * @param chain DER, the peer's own certificate first, the others in any order. Copies of what a path was verified of are kept,
 *   bounded in number.
 */
export function verifyPeerCertificates(
  chain: readonly Uint8Array[],
  options: VerifyPeerCertificatesOptions,
): Promise<Verdict> {
  const result = verify(chain, options);
  if ("cause" in result)
    return Promise.resolve({ ok: false, alert: CERTIFICATE_FAULT_ALERTS[result.cause], ...result });
  return Promise.resolve({
    ok: true,
    subject: result.subject,
    sans: subjectAltNamesOf(result.subjectAltNames),
    ...(result.commonName === undefined ? {} : { commonName: result.commonName }),
  });
}

export interface VerifyPeerCertificatesOptions {
  /** Trust anchors, DER, as `loadTrustAnchors` returns them; parsed once for each content. A malformed one anchors nothing. */
  readonly anchors: readonly Uint8Array[];
  readonly purpose: CertificatePurpose;
  /** Wall-clock time, milliseconds since 1970. */
  readonly atMs: number;
  /** The name that was dialled; left out for clients, who have none, and whom `sans` or `commonName` then identify. */
  readonly name?: PeerName;
  /** Default: revocation is not looked at. */
  readonly revocation?: RevocationPolicy | undefined;
  readonly limits?: Partial<VerificationLimits>;
}

/** What an unauthenticated peer can make us parse. */
export interface VerificationLimits {
  /** Certificates in the message, and in a path with its anchor; 1 or more. Too few refuses honest chains of several CAs. */
  readonly maxChainLength: number;
  /**
   * Bytes of all certificates in the message: real ones have 0.5 to 3 kB each. To read 16 kB that are made for it takes 80 ms,
   * and over TLS a peer may send 100 kB.
   */
  readonly maxChainBytes: number;
}

export const VERIFICATION_DEFAULTS: VerificationLimits = { maxChainLength: 8, maxChainBytes: 16_384 };

/** The answer for DTLS (`alert`, `reason`) and for policy (`subject`, `sans`, `commonName`) in one. */
export type Verdict =
  | {
      readonly ok: true;
      /** RFC 4514 style, for people and logs. */
      readonly subject: string;
      readonly sans: readonly SubjectAltName[];
      /** No dNSName constraint of a CA covers it: trust it as a name only under anchors of one's own. */
      readonly commonName?: string;
    }
  | {
      readonly ok: false;
      readonly cause: CertificateFault;
      readonly alert: CertificateFaultAlert;
      /** A sentence for a log; not API. */
      readonly reason: string;
    };

function verify(chain: readonly Uint8Array[], options: VerifyPeerCertificatesOptions): Certificate | Refusal {
  const limits = { ...VERIFICATION_DEFAULTS, ...options.limits };
  if (chain.length > limits.maxChainLength)
    return { cause: "chain-too-long", reason: `the peer sent ${chain.length} certificates` };
  const bytes = chain.reduce((sum, { length }) => sum + length, 0);
  if (bytes > limits.maxChainBytes)
    return { cause: "certificate-too-large", reason: `the peer sent certificates of ${bytes} bytes` };
  const parsed = chain.map(parsePeerCertificate);
  const [leaf, ...intermediates] = parsed.filter((certificate) => certificate !== undefined);
  if (leaf === undefined || intermediates.length + 1 < parsed.length)
    return { cause: "malformed", reason: leaf === undefined ? "no certificate was readable" : "malformed certificate" };

  const anchors = options.anchors.map(parseAnchor).filter((anchor) => anchor !== undefined);
  let refusal: Refusal | undefined;
  for (const path of candidatePaths(leaf, intermediates, anchors, limits.maxChainLength)) {
    const fault = validatePath(path, options.purpose, options.atMs, options.revocation);
    if (fault === undefined) {
      for (const certificate of path) keepParsed(certificate);
      return options.name === undefined ? leaf : (refuseName(leaf, options.name) ?? leaf);
    }
    // Of several paths, the one whose signatures fit says more than one that was tried for its names alone.
    if (refusal === undefined || refusal.cause === "bad-signature") refusal = fault;
  }
  return refusal ?? withoutPath(leaf);
}

function refuseName(leaf: Certificate, peer: PeerName): Refusal | undefined {
  if (isNamedBy(leaf, peer)) return undefined;
  const dialled = peer.type === "dns" ? peer.name : peer.address;
  const names = subjectAltNamesOf(leaf.subjectAltNames).map(({ type, value }) => `${type}:${value}`);
  const listed = names.length === 0 ? "no names" : names.slice(0, 5).join(", ");
  return { cause: "wrong-name", reason: `the certificate names ${listed}, not ${JSON.stringify(dialled)}` };
}

function withoutPath(leaf: Certificate): Refusal {
  const isSelfSigned = leaf.isSelfIssued && isSignedBy(leaf, leaf);
  return isSelfSigned
    ? { cause: "self-signed", reason: `${quote(leaf.subject)} is self-signed and not among the anchors` }
    : { cause: "unknown-issuer", reason: `no anchor issued ${quote(leaf.subject)}` };
}
