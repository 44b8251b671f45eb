import { createServer as createTcpServer, connect as connectTcp, type Server, type Socket } from "node:net";
import {
  connect as connectTls,
  createServer as createTlsServer,
  type DetailedPeerCertificate,
  type Server as TlsServer,
  type TlsOptions,
  type TLSSocket,
} from "node:tls";
import { constants } from "node:crypto";
import type { CertificateCredential, CertificateVerdict, PeerInfo } from "#dtls/index.js";
import { NetError, netError } from "./net-error.js";
import type { SocketAddress } from "./udp-socket.js";

/** A connected TCP or TLS stream that CoAP is spoken on (RFC 8323). */
export class CoapStream {
  readonly remoteAddress: SocketAddress;
  /** What TLS established about the peer; undefined on plain TCP. */
  readonly peer: PeerIdentity | undefined;
  /** Fulfilled when the stream is closed, whoever did it. */
  readonly closed: Promise<void>;
  onData: ((bytes: Uint8Array) => void) | undefined;
  readonly #socket: Socket;

  constructor(socket: Socket, peer: PeerIdentity | undefined) {
    this.#socket = socket;
    this.peer = peer;
    this.remoteAddress = { address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 };
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    // A reset is a close like any other here.
    socket.on("error", () => socket.destroy());
    socket.on("data", (bytes: Buffer) => this.onData?.(bytes));
    socket.on("end", () => socket.end());
    socket.setNoDelay(true);
  }

  get isSecure(): boolean {
    return this.peer !== undefined;
  }

  /** A peer that does not read what it asked for is cut off, rather than kept in memory. */
  send(bytes: Uint8Array): void {
    if (this.#socket.destroyed || !this.#socket.writable) return;
    this.#socket.write(bytes);
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.#socket.destroy();
  }

  /** Whether to read from the peer; what it sends meanwhile waits in the network. */
  setReading(isReading: boolean): void {
    if (isReading) this.#socket.resume();
    else this.#socket.pause();
  }

  /** Sends what is left and closes; cuts off a peer that does not take it within two seconds. */
  async close(): Promise<void> {
    this.#socket.end();
    this.#socket.resume();
    const timer = setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS);
    await this.closed;
    clearTimeout(timer);
  }
}

/** What is known of a secure peer, over DTLS or TLS. */
export type PeerIdentity = Pick<PeerInfo, "pskIdentity" | "certificates" | "rawPublicKey" | "serverName">;

/** Listens for CoAP over TCP, or over TLS where there is `tls`. @throws NetError NET_PORT_IN_USE and those of binding. */
export async function listenStream(
  onStream: (stream: CoapStream) => void,
  options: StreamListenOptions = {},
): Promise<StreamListener> {
  const { host = "0.0.0.0", port = 0, tls, maxConnections = DEFAULT_MAX_CONNECTIONS, sharesPort = false } = options;
  const sockets = new Set<Socket>();
  const secure = tls === undefined ? undefined : secureServer(tls, onStream);
  const server = secure?.server ?? createTcpServer((socket) => onStream(new CoapStream(socket, undefined)));
  server.maxConnections = maxConnections;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(netError(error, `listening on TCP ${host}:${port}`)));
    server.listen({ host, port, exclusive: true, ...(sharesPort ? { reusePort: true } : {}) }, () => resolve());
  });
  return new StreamListener(server, sockets, secure?.replace);
}

export class StreamListener {
  readonly address: SocketAddress;
  readonly #server: Server;
  readonly #sockets: ReadonlySet<Socket>;
  readonly #replace: ((credentials: StreamServerCredentials) => void) | undefined;

  constructor(server: Server, sockets: ReadonlySet<Socket>, replace?: (credentials: StreamServerCredentials) => void) {
    this.#replace = replace;
    const bound = server.address();
    this.address = typeof bound === "object" && bound !== null ? { address: bound.address, port: bound.port } : NOWHERE;
    this.#server = server;
    this.#sockets = sockets;
  }

  /** New handshakes use these credentials; those under way, which began with others, are ended. Nothing on plain TCP. */
  replaceCredentials(credentials: StreamServerCredentials): void {
    this.#replace?.(credentials);
  }

  /** Stops to listen, and closes what it accepted. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** Connects. `signal` gives up. @throws NetError NET_CONNECTION_REFUSED, NET_NAME_NOT_FOUND, NET_NOT_ACCEPTED, NET_CLOSED. */
export async function connectStream(
  remote: { readonly host: string; readonly port: number },
  options: StreamConnectOptions = {},
): Promise<CoapStream> {
  const { tls, signal, local, dangerSkipAlpn = false } = options;
  const attempt = `connecting to ${remote.host}:${remote.port}`;
  const place = {
    ...remote,
    ...(local?.host === undefined ? {} : { localAddress: local.host }),
    ...(local?.port === undefined ? {} : { localPort: local.port }),
  };
  const socket = tls === undefined ? connectTcp(place) : secureSocket(place, tls);
  const giveUp = (): void => void socket.destroy(new NetError("NET_CLOSED", `${attempt}: given up`));
  signal?.addEventListener("abort", giveUp, { once: true });
  if (signal?.aborted === true) giveUp();
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", (error) => reject(error instanceof NetError ? error : netError(error, attempt)));
      socket.once("close", () => reject(new NetError("NET_CLOSED", `${attempt}: closed by the server`)));
      socket.once(tls === undefined ? "connect" : "secureConnect", resolve);
    });
    if (tls === undefined) return new CoapStream(socket, undefined);
    // RFC 8323 §8.2: only on its own port may CoAP be taken for granted.
    const needsAlpn = remote.port !== COAPS_TCP_PORT && !dangerSkipAlpn;
    if (needsAlpn && (socket as TLSSocket).alpnProtocol !== ALPN_PROTOCOL)
      throw new NetError("NET_NOT_ACCEPTED", `${attempt}: the server does not say that it speaks CoAP (ALPN)`);
    const identity = identityOf(socket as TLSSocket, tls.psk?.identity);
    if (identity.pskIdentity === undefined) await verified(socket, identity.certificates ?? [], tls.verify, attempt);
    return new CoapStream(socket, identity);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

export interface StreamConnectOptions {
  readonly tls?: StreamClientTls;
  /** Gives up. */
  readonly signal?: AbortSignal;
  /** Default: the system's choice. */
  readonly local?: { readonly host?: string; readonly port?: number };
  /**
   * Default false: on a port other than 5684 a TLS server that does not name CoAP by ALPN is refused (RFC 8323 §8.2). true, for
   * such as libcoap's, which names nothing: a server of another protocol may be taken for one of CoAP.
   */
  readonly dangerSkipAlpn?: boolean;
}

export interface StreamListenOptions {
  /** An address literal. Default 0.0.0.0. */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
  readonly tls?: StreamServerTls;
  /** Default 10,000; further ones are closed at once. */
  readonly maxConnections?: number;
  /** As of a UDP socket: several processes may listen on the port. Default false. */
  readonly sharesPort?: boolean;
}

export interface StreamServerTls extends StreamServerCredentials {
  readonly clientCertificate: "none" | "request" | "require";
  readonly verify: (certificates: readonly Uint8Array[]) => CertificateVerdict | Promise<CertificateVerdict>;
  readonly onHandshakeFailed?: (remote: SocketAddress, error: unknown) => void;
}

/** What a server proves itself by; without either no handshake succeeds. */
export interface StreamServerCredentials {
  readonly certificate?: CertificateCredential;
  /** The key of an identity; node's TLS does not wait for one. Absent: no PSK suite is taken. */
  readonly pskOf?: (identity: Uint8Array) => Uint8Array | undefined;
}

/** With `psk` no certificate is offered or taken. */
export interface StreamClientTls {
  readonly psk?: { readonly identity: Uint8Array; readonly key: Uint8Array };
  readonly certificate?: CertificateCredential;
  readonly serverName?: string;
  readonly verify: (certificates: readonly Uint8Array[]) => CertificateVerdict | Promise<CertificateVerdict>;
}

function secureServer(
  tls: StreamServerTls,
  onStream: (stream: CoapStream) => void,
): { readonly server: TlsServer; readonly replace: (credentials: StreamServerCredentials) => void } {
  const { clientCertificate, verify, onHandshakeFailed } = tls;
  let { pskOf } = tls;
  const identities = new WeakMap<object, Uint8Array>();
  /** Connections of which it is not known yet who is at the other end, by its address. */
  const handshakes = new Map<string, Socket>();
  const failed = (socket: Socket, error: unknown): void => {
    onHandshakeFailed?.({ address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 }, error);
    socket.destroy();
  };
  const server = createTlsServer({
    ...contextOf(tls),
    requestCert: clientCertificate !== "none",
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    pskCallback: (socket: TLSSocket, identity: string) => {
      const bytes = TEXT_ENCODER.encode(identity);
      const key = pskOf?.(bytes);
      if (key === undefined) return null;
      identities.set(socket, bytes);
      return key;
    },
  });
  server.on("connection", (socket: Socket) => {
    const place = placeOf(socket);
    handshakes.set(place, socket);
    socket.once("close", () => handshakes.get(place) === socket && handshakes.delete(place));
  });
  const opened = (socket: TLSSocket, identity: PeerIdentity): void => {
    // Ended by other credentials in the very moment.
    if (!handshakes.delete(placeOf(socket)) || socket.destroyed) {
      socket.destroy();
      return;
    }
    onStream(new CoapStream(socket, identity));
  };
  server.on("tlsClientError", (error, socket) => failed(socket, error));
  server.on("secureConnection", (socket) => {
    // Whatever comes while the certificate is looked at waits in the socket.
    const identity = identityOf(socket, identities.get(socket));
    const certificates = identity.certificates ?? [];
    if (identity.pskIdentity !== undefined || (certificates.length === 0 && clientCertificate !== "require")) {
      opened(socket, identity);
      return;
    }
    socket.on("error", () => socket.destroy());
    verified(socket, certificates, verify, "accepting").then(
      () => opened(socket, identity),
      (error: unknown) => failed(socket, error),
    );
  });
  return {
    server,
    replace: (credentials) => {
      ({ pskOf } = credentials);
      server.setSecureContext(contextOf(credentials));
      for (const socket of handshakes.values()) socket.destroy();
      handshakes.clear();
    },
  };
}

function contextOf({ certificate, pskOf }: StreamServerCredentials): TlsOptions {
  const ciphers = [
    ...(pskOf !== undefined && certificate === undefined ? [] : CERTIFICATE_CIPHERS),
    ...(pskOf === undefined ? [] : PSK_CIPHERS),
  ];
  return { ...COMMON, ...(certificate === undefined ? {} : pemOf(certificate)), ciphers: ciphers.join(":") };
}

function placeOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? ""} ${remotePort ?? 0}`;
}

function secureSocket(
  place: { readonly host: string; readonly port: number; readonly localAddress?: string; readonly localPort?: number },
  tls: StreamClientTls,
): TLSSocket {
  const { psk, certificate, serverName } = tls;
  return connectTls({
    ...COMMON,
    ...place,
    ...(serverName === undefined ? {} : { servername: serverName }),
    ...(certificate === undefined || psk !== undefined ? {} : pemOf(certificate)),
    ciphers: (psk === undefined ? CERTIFICATE_CIPHERS : PSK_CIPHERS).join(":"),
    // Names are checked with the rest of the certificate, in `verify`.
    checkServerIdentity: () => undefined,
    ...(psk === undefined
      ? {}
      : {
          maxVersion: "TLSv1.2" as const,
          pskCallback: () => ({ psk: psk.key, identity: new TextDecoder().decode(psk.identity) }),
        }),
  });
}

/** @throws NetError NET_NOT_ACCEPTED with the verdict's reason. */
async function verified(
  socket: Socket,
  certificates: readonly Uint8Array[],
  verify: StreamServerTls["verify"],
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
function identityOf(socket: TLSSocket, pskIdentity: Uint8Array | undefined): PeerIdentity {
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

function pemOf({ chain, privateKey }: CertificateCredential): { readonly cert: string; readonly key: string } {
  const cert = chain
    .map((der) => `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString("base64")}\n-----END CERTIFICATE-----\n`)
    .join("");
  return { cert, key: privateKey.export({ type: "pkcs8", format: "pem" }).toString() };
}

const ALPN_PROTOCOL = "coap";
const COAPS_TCP_PORT = 5684;
const COMMON = {
  minVersion: "TLSv1.2",
  // RFC 8323 §8.2
  ALPNProtocols: [ALPN_PROTOCOL],
  // The project's own verification decides, as over DTLS.
  rejectUnauthorized: false,
  secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
} as const;
const CERTIFICATE_CIPHERS = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
];
const PSK_CIPHERS = ["PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384"];
const DEFAULT_MAX_CONNECTIONS = 10_000;
const HANDSHAKE_TIMEOUT_MS = 30_000;
const CLOSE_TIMEOUT_MS = 2000;
/** Of responses and notifications that the peer has not taken. */
const MAX_UNSENT_BYTES = 1024 * 1024;
const NOWHERE: SocketAddress = { address: "", port: 0 };
const TEXT_ENCODER = new TextEncoder();
