import { equalBytes, type Certificate } from "./certificate.js";

/** The peer's certificate first, each followed by one that may have issued it, an anchor last. */
export type CertificatePath = readonly [Certificate, ...Certificate[]];

/**
 * Every path from the peer's certificate to an anchor whose names, and key identifiers where both sides have them, fit
 * (RFC 5280 §6.1: building it is left to us). What the peer sent after its own may be in any order, incomplete, or more
 * than needed. A peer's certificate that is itself an anchor is a path of one: the operator trusts that very certificate.
 *
 * Signatures are not looked at, so that a peer could send certificates that all fit each other: `MAX_BUILD_STEPS` bounds
 * the search.
 */
export function* candidatePaths(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  anchors: readonly Certificate[],
  maxChainLength: number,
): Generator<CertificatePath> {
  if (anchors.some((anchor) => equalBytes(anchor.der, leaf.der))) yield [leaf];
  let steps = 0;
  const open: CertificatePath[] = [[leaf]];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    const last = path[path.length - 1] ?? leaf;
    for (const anchor of anchors) {
      if (!path.includes(anchor) && mayHaveIssued(anchor, last) && !equalBytes(anchor.der, leaf.der)) {
        if (++steps > MAX_BUILD_STEPS) return;
        yield [...path, anchor];
      }
    }
    if (path.length + 1 >= maxChainLength) continue;
    // In reverse, since the stack turns them around: the peer's own order is tried first.
    for (const issuer of intermediates.toReversed()) {
      if (path.includes(issuer) || !mayHaveIssued(issuer, last)) continue;
      if (++steps > MAX_BUILD_STEPS) return;
      open.push([...path, issuer]);
    }
  }
}

/** Differs from RFC 5280 §7.1: names are compared byte by byte, which refuses rather than accepts (§4.1.2.6 asks CAs for it). */
function mayHaveIssued(issuer: Certificate, subject: Certificate): boolean {
  if (!equalBytes(issuer.subjectName, subject.issuerName)) return false;
  const [wanted, actual] = [subject.authorityKeyId, issuer.subjectKeyId];
  return wanted === undefined || actual === undefined || wanted === actual;
}

/** Issuers tried in one search: a chain of 8 in order takes 8, a few cross certificates some more. */
export const MAX_BUILD_STEPS = 32;
