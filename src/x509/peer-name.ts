import { isIP } from "node:net";
import type { Certificate } from "./certificate.js";

/** Whom the caller meant to reach: the host part of the URI that it dialled (RFC 9525 §6.1). */
export type PeerName =
  | { readonly type: "dns"; readonly name: string }
  | { readonly type: "ip"; readonly address: string };

/** Of a host, as it stands in a URI. */
export function peerNameOf(host: string): PeerName {
  return isIP(host) === 0 ? { type: "dns", name: host } : { type: "ip", address: host };
}

/**
 * Whether a subjectAltName of the certificate is this name (RFC 9525 §6.3 and §6.4): a dNSName, in which a wildcard stands
 * for the whole left-most label and no more, or an iPAddress byte for byte. The common name is never looked at.
 */
export function isNamedBy(certificate: Certificate, peer: PeerName): boolean {
  switch (peer.type) {
    case "ip":
      return isIP(peer.address) !== 0 && certificate.native.checkIP(peer.address) !== undefined;
    case "dns": {
      const name = peer.name.replace(/\.$/, "");
      // An address in text is no DNS name, and OpenSSL takes ".example.com" for a question about any subdomain.
      if (isIP(name) !== 0 || !HOST_NAME.test(name)) return false;
      return (
        certificate.native.checkHost(name, {
          subject: "never",
          wildcards: true,
          partialWildcards: false,
          multiLabelWildcards: false,
          singleLabelSubdomains: false,
        }) !== undefined
      );
    }
  }
}

/** Labels of letters, digits, hyphens and underscores; international names come as A-labels (RFC 9525 §6.3). */
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/i;
