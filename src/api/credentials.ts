import { isIP } from "node:net";
import { CIPHER_SUITES, type CipherSuiteName, connect, type DtlsSession } from "#net/index.js";
import { loadCredentials, loadTrustAnchors, verifyPeerCertificates } from "#x509/index.js";

/** How a client shows who it is over DTLS, and whom it trusts. Without any of it no secure server is trusted. */
export interface Credentials {
  /** A text key stands for its UTF-8 bytes. */
  readonly psk?: { readonly identity: string; readonly key: Uint8Array | string };
  /** Trust anchors for the server's certificate: PEM. */
  readonly ca?: string;
  /** The client's own certificate and its private key: PEM, leaf first. */
  readonly certificate?: string;
  readonly privateKey?: string;
  /** Takes any certificate of the server: whoever is in between can read and change everything. */
  readonly dangerSkipVerification?: boolean;
}

/**
 * Opens a DTLS session that the credentials suit: with a PSK, or else with certificates. `signal` ends the handshake.
 *
 * @throws NetError, DtlsError, X509Error for PEM that holds no certificate or key.
 */
export async function openSession(
  host: string,
  port: number,
  credentials: Credentials,
  signal: AbortSignal,
): Promise<DtlsSession> {
  const { psk, ca, certificate, privateKey, dangerSkipVerification } = credentials;
  const usesPsk = psk !== undefined && ca === undefined && dangerSkipVerification !== true;
  const cipherSuites = (Object.keys(CIPHER_SUITES) as CipherSuiteName[]).filter(
    (suite) => suite.includes("PSK") === usesPsk,
  );
  const anchors = ca === undefined ? [] : loadTrustAnchors(ca);
  const isAddress = isIP(host) !== 0;
  const name = isAddress ? ({ type: "ip", address: host } as const) : ({ type: "dns", name: host } as const);
  const session = await connect(
    { host, port },
    {
      cipherSuites,
      ...(isAddress ? {} : { serverName: host }),
      ...(usesPsk ? { psk: { identity: bytesOf(psk.identity), key: bytesOf(psk.key) } } : {}),
      ...(certificate === undefined ? {} : { certificate: loadCredentials(certificate, privateKey ?? certificate) }),
      verify: (certificates) =>
        dangerSkipVerification === true
          ? { ok: true }
          : verifyPeerCertificates(certificates, { anchors, purpose: "serverAuth", atMs: Date.now(), name }),
    },
  );
  const close = (): void => void session.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    if (signal.aborted) close();
    await session.opened;
    return session;
  } finally {
    signal.removeEventListener("abort", close);
  }
}

function bytesOf(value: Uint8Array | string): Uint8Array {
  return typeof value === "string" ? new TextEncoder().encode(value) : value;
}
