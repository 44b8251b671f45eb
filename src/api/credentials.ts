import { isIP } from "node:net";
import {
  CIPHER_SUITE_NAMES,
  connect,
  type DtlsSession,
  type LocalSocket,
  type StreamClientTls,
  untilOpened,
} from "#net/index.js";
import { loadCredentials, loadTrustAnchors, peerNameOf, verifyPeerCertificates } from "#x509/index.js";

/** How a client shows who it is over DTLS or TLS, and whom it trusts. Without any of it no secure server is trusted. */
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
  local: LocalSocket = {},
): Promise<DtlsSession> {
  const { usesPsk, serverName, certificate, verify, psk } = handshakeOptions(host, credentials);
  const cipherSuites = CIPHER_SUITE_NAMES.filter((suite) => suite.includes("PSK") === usesPsk);
  const session = await connect(
    { host, port },
    {
      cipherSuites,
      verify,
      local,
      endsOnRefusal: true,
      ...(serverName === undefined ? {} : { serverName }),
      ...(psk === undefined ? {} : { psk }),
      ...(certificate === undefined ? {} : { certificate }),
    },
  );
  return untilOpened(session, signal);
}

/** The same for TLS over TCP. @throws X509Error for PEM that holds no certificate or key. */
export function tlsOptions(host: string, credentials: Credentials): StreamClientTls {
  const { serverName, certificate, verify, psk } = handshakeOptions(host, credentials);
  return {
    verify,
    ...(serverName === undefined ? {} : { serverName }),
    ...(psk === undefined ? {} : { psk }),
    ...(certificate === undefined ? {} : { certificate }),
  };
}

function handshakeOptions(host: string, credentials: Credentials): HandshakeOptions {
  const { psk, ca, certificate, privateKey, dangerSkipVerification } = credentials;
  const usesPsk = psk !== undefined && ca === undefined && dangerSkipVerification !== true;
  const anchors = ca === undefined ? [] : loadTrustAnchors(ca);
  const isAddress = isIP(host) !== 0;
  const name = peerNameOf(host);
  return {
    usesPsk,
    serverName: isAddress ? undefined : host,
    psk: usesPsk ? { identity: bytesOf("identity", psk.identity), key: bytesOf("key", psk.key) } : undefined,
    certificate: certificate === undefined ? undefined : loadCredentials(certificate, privateKey ?? certificate),
    verify: (certificates) =>
      dangerSkipVerification === true
        ? { ok: true }
        : ca === undefined
          ? { ok: false, alert: "unknown_ca", reason: "no trust anchors are given (ca; -C of dpe get)" }
          : verifyPeerCertificates(certificates, { anchors, purpose: "serverAuth", atMs: Date.now(), name }),
  };
}

interface HandshakeOptions {
  readonly usesPsk: boolean;
  readonly serverName: string | undefined;
  readonly psk: { readonly identity: Uint8Array; readonly key: Uint8Array } | undefined;
  readonly certificate: ReturnType<typeof loadCredentials> | undefined;
  readonly verify: StreamClientTls["verify"];
}

function bytesOf(name: string, value: Uint8Array | string): Uint8Array {
  if (typeof value === "string") return new TextEncoder().encode(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`psk.${name} is to be text or a Uint8Array, not ${value === null ? "null" : typeof value}`);
}
