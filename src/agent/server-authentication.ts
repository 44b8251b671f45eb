import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { CONNECTION_LEVEL, type ConnectionLevel } from "#dpe/index.js";
import { ipPrefix, isInPrefix, parseIpAddress } from "#ip/index.js";
import { CIPHER_SUITE_NAMES, type ClientOptions, type CoapConnection, type connect } from "#net/index.js";
import { type ClientPolicy, SecurityError, type ServerAuthentication, type ServerOffer } from "#security/index.js";
import {
  keyFingerprint,
  inFile,
  loadCredentials,
  loadPrivateKey,
  loadTrustAnchors,
  peerNameOf,
  verifyPeerCertificates,
} from "#x509/index.js";
import type { AgentInterface } from "./agent-config.js";
import type { AgentCredentials } from "./credentials-config.js";
import type { ServerConfig } from "./server-list.js";

/** What an interface of the agent demands of the server. */
export function clientPolicy({ connection, serverAuthentication }: AgentInterface): ClientPolicy {
  const modes = typeof serverAuthentication === "string" ? [serverAuthentication] : serverAuthentication;
  return { connection, serverAuthentication: modes };
}

/** The least connection with which the policy can be satisfied: what only a handshake can prove needs one. */
export function leastConnection({ connection, serverAuthentication }: ClientPolicy): ConnectionLevel {
  return serverAuthentication.some((mode) => !NEEDS_DTLS.has(mode)) ? connection : "dtls";
}

export function isBelow(level: ConnectionLevel, least: ConnectionLevel): boolean {
  return CONNECTION_LEVEL[level] < CONNECTION_LEVEL[least];
}

/**
 * How to shake hands with the server: only what the policy accepts is offered. A server that must show a certificate or
 * a raw public key is not offered a PSK, nor the reverse.
 *
 * @throws X509Error for files that do not serve; SecurityError SECURITY_CONNECTION_BELOW_POLICY where the policy asks for a
 * PSK and there is none.
 */
export function dtlsOptions(config: ServerConfig): Parameters<typeof connect>[1] {
  const { dpe1 } = config.interfaces;
  const { ca, credentials } = dpe1;
  const { serverAuthentication: modes } = clientPolicy(dpe1);
  const { host } = config.server;
  const { psk } = credentials;
  const asksForCertificate = modes.includes("certificate");
  const asksForKey = modes.includes("rawPublicKey");
  const isLax = modes.some((mode) => !NEEDS_DTLS.has(mode));
  const usesPsk = modes.includes("psk") || (isLax && psk !== undefined && !asksForCertificate && !asksForKey);
  const takesCertificates = asksForCertificate || (isLax && !usesPsk && !asksForKey);
  if (usesPsk && psk === undefined) {
    throw new SecurityError("SECURITY_CONNECTION_BELOW_POLICY", "serverAuthentication psk needs credentials.psk");
  }
  const isAddress = isIP(host) !== 0;
  const anchors = ca === undefined ? [] : inFile(ca, () => loadTrustAnchors(readFileSync(ca, "utf8")));
  const name = peerNameOf(host);
  const own = credentialsOf(credentials);
  return {
    cipherSuites: CIPHER_SUITE_NAMES.filter((suite) =>
      suite.includes("PSK") ? usesPsk : takesCertificates || asksForKey,
    ),
    ...(isAddress ? {} : { serverName: host }),
    ...(usesPsk && psk !== undefined
      ? { psk: { identity: new TextEncoder().encode(psk.identity), key: psk.key.reveal() } }
      : {}),
    ...(own === undefined ? {} : { certificate: own }),
    ...rawPublicKeyOf(credentials),
    ...(asksForKey
      ? {
          verifyRawPublicKey: keyVerifier(dpe1),
          peerCertificateTypes: certificateTypes(modes, takesCertificates),
        }
      : {}),
    ...(takesCertificates || !asksForKey
      ? {
          verify: (certificates: readonly Uint8Array[]) =>
            asksForCertificate
              ? verifyPeerCertificates(certificates, { anchors, purpose: "serverAuth", atMs: Date.now(), name })
              : ({ ok: true } as const),
        }
      : {}),
  };
}

/** In the order of the policy. */
function certificateTypes(
  modes: readonly ServerAuthentication[],
  takesCertificates: boolean,
): ("X.509" | "RawPublicKey")[] {
  const listed = modes.flatMap((mode) =>
    mode === "rawPublicKey" ? (["RawPublicKey"] as const) : mode === "certificate" ? (["X.509"] as const) : [],
  );
  return takesCertificates && !listed.includes("X.509") ? [...listed, "X.509"] : listed;
}

/** Whether a raw public key is one of those that the policy names. */
export function keyVerifier({
  serverKeys = [],
}: AgentInterface): NonNullable<Parameters<typeof connect>[1]["verifyRawPublicKey"]> {
  return (rawPublicKey) => {
    const shown = keyFingerprint(rawPublicKey);
    return serverKeys.includes(shown)
      ? { ok: true }
      : { ok: false, alert: "certificate_unknown", reason: `the server's public key ${shown} is none of serverKeys` };
  };
}

/** The agent's own key without a certificate, where it has one. @throws X509Error. */
export function rawPublicKeyOf({ rawPublicKey }: AgentCredentials): Pick<ClientOptions, "rawPublicKey"> {
  return rawPublicKey === undefined ? {} : { rawPublicKey: { privateKey: loadPrivateKey(rawPublicKey.text()) } };
}

/** The agent's own certificate, where it has one. @throws X509Error. */
export function credentialsOf({
  certificate,
  key,
  renew,
}: AgentCredentials): ReturnType<typeof loadCredentials> | undefined {
  if (certificate === undefined || key === undefined) return undefined;
  const text = readFileSync(certificate, "utf8");
  // What was renewed since the start is in one file with its key.
  const files = renew === true || key.path === undefined ? certificate : `${certificate} with ${key.path}`;
  return inFile(files, () => loadCredentials(text, renew === true ? text : key.text()));
}

/** What the server has shown on a connection; its certificate was verified in the handshake if the policy asks for one. */
export function offerOf(connection: CoapConnection, host: string, policy: AgentInterface): ServerOffer {
  const { peerInfo, remoteAddress } = connection;
  const { serverAuthentication: modes } = clientPolicy(policy);
  const isListed = isListedServer(policy.addresses ?? [], host, remoteAddress.address);
  const isVerified = modes.includes("certificate") && peerInfo?.certificates !== undefined;
  const key = modes.includes("rawPublicKey") ? peerInfo?.rawPublicKey : undefined;
  return {
    connection: connection.isSecure ? "dtls" : "none",
    ...(peerInfo?.pskIdentity === undefined ? {} : { psk: "valid" }),
    ...(isVerified ? { certificate: "valid" } : {}),
    ...(key === undefined ? {} : { rawPublicKey: keyVerdict(policy, key) }),
    ...(modes.includes("address") ? { address: isListed ? "valid" : "invalid" } : {}),
  };
}

function keyVerdict({ serverKeys = [] }: AgentInterface, rawPublicKey: Uint8Array): "valid" | "invalid" {
  return serverKeys.includes(keyFingerprint(rawPublicKey)) ? "valid" : "invalid";
}

/** Whether the name that was dialled, or the address that it led to, is in a list of names, addresses and prefixes. */
function isListedServer(list: readonly string[], host: string, address: string): boolean {
  const bytes = parseIpAddress(address);
  return list.some((entry) => {
    const [base = "", length] = entry.split("/");
    const listed = parseIpAddress(base);
    if (listed === undefined) return entry.toLowerCase() === host.toLowerCase();
    const prefix = ipPrefix(listed, length === undefined ? listed.length * 8 : Number(length));
    return bytes !== undefined && prefix !== undefined && isInPrefix(bytes, prefix);
  });
}

const NEEDS_DTLS: ReadonlySet<ServerAuthentication> = new Set(["certificate", "psk", "rawPublicKey"]);
