import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import {
  CIPHER_SUITE_NAMES,
  type CoapConnection,
  CoapEndpoint,
  type CoapEndpointOptions,
  connect,
  resolveHost,
  UdpSocket,
  untilOpened,
} from "#net/index.js";
import { peerNameOf, verifyPeerCertificates } from "#x509/index.js";
import { ownCertificateOf, readAnchors } from "./pem-files.js";
import type { TargetConfig } from "./proxy-config.js";

/** A server that is forwarded to, with what is needed to reach it, read once. */
export class Target {
  readonly config: TargetConfig;
  /** Segments below which its resources are. */
  readonly basePath: readonly string[];
  /** Of everything that a connection with it rests on: files and keys as they were read. */
  readonly mark: string;
  readonly #dtls: Parameters<typeof connect>[1];

  /** @throws X509Error for a certificate, key or anchor file that does not serve. */
  constructor(config: TargetConfig) {
    this.config = config;
    this.basePath = segmentsOf(config.uri.path);
    this.#dtls = dtlsOptions(config);
    this.mark = markOf(config);
  }

  /**
   * Opens an association of its own, on a socket of its own; `signal` gives up a handshake.
   *
   * @throws NetError, DtlsError, CoapError.
   */
  async open(
    options: CoapEndpointOptions,
    signal: AbortSignal,
  ): Promise<{ connection: CoapConnection; close(): Promise<void> }> {
    const { scheme, host, port } = this.config.uri;
    const endpoint = new CoapEndpoint(options);
    try {
      const connection =
        scheme === "coap"
          ? await connectPlainly(endpoint, host, port)
          : endpoint.addSession(await untilOpened(await connect({ host, port }, this.#dtls), signal));
      return {
        connection,
        close: async () => {
          await connection.close();
          await endpoint.close();
        },
      };
    } catch (error) {
      await endpoint.close();
      throw error;
    }
  }
}

function markOf({ name, uri, serverAuthentication, ca, credentials }: TargetConfig): string {
  const { psk, certificate, key } = credentials;
  const hash = createHash("sha256");
  for (const part of [
    name,
    uri.href,
    serverAuthentication,
    ca === undefined ? "" : readFileSync(ca),
    psk?.identity ?? "",
    psk?.key.reveal() ?? "",
    certificate === undefined ? "" : readFileSync(certificate),
    key?.reveal() ?? "",
  ])
    hash.update(createHash("sha256").update(part).digest());
  return hash.digest("base64");
}

/** The segments of a URI's path, decoded; none for `/`. */
export function segmentsOf(path: string): string[] {
  return path
    .split("/")
    .filter((segment) => segment !== "")
    .map((segment) => decodeURIComponent(segment));
}

async function connectPlainly(endpoint: CoapEndpoint, host: string, port: number): Promise<CoapConnection> {
  const address = await resolveHost(host);
  const socket = await UdpSocket.bind({ host: address.includes(":") ? "::" : "0.0.0.0" });
  return endpoint.addSocket(socket).connectTo({ address, port });
}

/** Only what the policy accepts is offered: a server that must show a certificate is not offered a PSK. */
export function dtlsOptions({
  uri,
  serverAuthentication,
  ca,
  credentials,
}: TargetConfig): Parameters<typeof connect>[1] {
  const { psk } = credentials;
  const usesPsk = serverAuthentication === "psk" || (serverAuthentication === "none" && psk !== undefined);
  const cipherSuites = CIPHER_SUITE_NAMES.filter((suite) => suite.includes("PSK") === usesPsk);
  if (usesPsk && psk !== undefined)
    return { cipherSuites, psk: { identity: new TextEncoder().encode(psk.identity), key: psk.key.reveal() } };
  const isAddress = isIP(uri.host) !== 0;
  const anchors = readAnchors(ca);
  const certificate = ownCertificateOf(credentials);
  const name = peerNameOf(uri.host);
  return {
    cipherSuites,
    ...(isAddress ? {} : { serverName: uri.host }),
    ...(certificate === undefined ? {} : { certificate }),
    verify: (certificates) =>
      serverAuthentication === "none"
        ? { ok: true }
        : verifyPeerCertificates(certificates, { anchors, purpose: "serverAuth", atMs: Date.now(), name }),
  };
}
