import { constants } from "node:crypto";
import type { Socket } from "node:net";
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import type { CertificateCredential, CertificateVerdict } from "#dtls/index.js";
import type { PeerIdentity } from "./coap-stream.js";
import { NetError } from "./net-error.js";

/** Looks at the peer's certificates. */
export type Verify = (certificates: readonly Uint8Array[]) => CertificateVerdict | Promise<CertificateVerdict>;

/** @throws NetError NET_NOT_ACCEPTED with the verdict's reason. */
export async function verified(
  socket: Socket,
  certificates: readonly Uint8Array[],
  verify: Verify,
  attempt: string,
): Promise<void> {
  const verdict: CertificateVerdict =
    certificates.length === 0
      ? { ok: false, alert: "bad_certificate", reason: "the peer has shown no certificate" }
      : await verify(certificates);
  if (!verdict.ok)
    throw new NetError("NET_NOT_ACCEPTED", `${attempt}: ${verdict.reason} (${verdict.alert})`, { cause: verdict });
  if (socket.destroyed) throw new NetError("NET_CLOSED", `${attempt}: closed by the peer`);
}

/** A PSK identity counts only where the suite that was agreed on is of PSK: in TLS 1.3 one is looked up before that is known. */
export function identityOf(socket: TLSSocket, pskIdentity: Uint8Array | undefined): PeerIdentity {
  const usesPsk = pskIdentity !== undefined && socket.getCipher().name.includes("PSK");
  const certificates = usesPsk ? [] : chainOf(socket);
  const { servername } = socket as TLSSocket & { readonly servername?: string | false };
  return {
    ...(usesPsk ? { pskIdentity } : {}),
    ...(certificates.length === 0 ? {} : { certificates }),
    ...(typeof servername === "string" ? { serverName: servername } : {}),
  };
}

function chainOf(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let next: Partial<DetailedPeerCertificate> | undefined = socket.getPeerCertificate(true);
  const seen = new Set<string>();
  while (next?.raw !== undefined && next.fingerprint256 !== undefined && !seen.has(next.fingerprint256)) {
    seen.add(next.fingerprint256);
    chain.push(new Uint8Array(next.raw));
    next = next.issuerCertificate;
  }
  return chain;
}

export function pemOf({ chain, privateKey }: CertificateCredential): { readonly cert: string; readonly key: string } {
  const cert = chain
    .map((der) => `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString("base64")}\n-----END CERTIFICATE-----\n`)
    .join("");
  return { cert, key: privateKey.export({ type: "pkcs8", format: "pem" }).toString() };
}

/** OpenSSL's bound is checked here: what Node.js throws beyond it shows the key. @throws NetError NET_SOCKET_FAILED. */
export function checkedKey(key: Uint8Array): Uint8Array {
  if (key.length <= MAX_PSK_BYTES) return key;
  throw new NetError(
    "NET_SOCKET_FAILED",
    `a pre-shared key of TLS has ${MAX_PSK_BYTES} bytes at most, not ${key.length}`,
  );
}

const MAX_PSK_BYTES = 512;
export const ALPN_PROTOCOL = "coap";
interface TlsCommon {
  readonly minVersion: "TLSv1.2";
  readonly ALPNProtocols: string[];
  readonly rejectUnauthorized: false;
  readonly secureOptions: number;
}

/** For both sides. */
export const TLS_COMMON: TlsCommon = {
  minVersion: "TLSv1.2",
  // RFC 8323 §8.2
  ALPNProtocols: [ALPN_PROTOCOL],
  // The project's own verification decides, as over DTLS.
  rejectUnauthorized: false,
  secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
};
export const CERTIFICATE_CIPHERS: readonly string[] = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
];
export const PSK_CIPHERS: readonly string[] = ["PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384"];
