import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type Server as TlsServer, type TlsOptions, type TLSSocket } from "node:tls";
import type { CertificateCredential } from "#dtls/index.js";
import { CoapStream, type PeerIdentity } from "./coap-stream.js";
import { netError } from "./net-error.js";
import {
  CERTIFICATE_CIPHERS,
  checkedKey,
  identityOf,
  pemOf,
  PSK_CIPHERS,
  TLS_COMMON,
  verified,
  type Verify,
} from "./stream-tls.js";
import type { SocketAddress } from "./udp-socket.js";

/** Listens for CoAP over TCP, or over TLS where there is `tls`. @throws NetError NET_PORT_IN_USE and those of binding. */
export async function listenStream(
  onStream: (stream: CoapStream) => void,
  options: StreamListenOptions = {},
): Promise<StreamListener> {
  const { host = "0.0.0.0", port = 0, tls, sharesPort = false } = options;
  const { maxConnections = DEFAULT_MAX_CONNECTIONS, maxConnectionsPerAddress = DEFAULT_MAX_PER_ADDRESS } = options;
  const sockets = new Set<Socket>();
  const secure = tls === undefined ? undefined : secureServer(tls, onStream);
  const server = secure?.server ?? createTcpServer((socket) => onStream(new CoapStream(socket, undefined)));
  server.maxConnections = maxConnections;
  const refused = { "too-many-connections": 0, "too-many-connections-of-address": 0 };
  server.on("drop", () => refused["too-many-connections"]++);
  const perAddress = new Map<string, number>();
  server.on("connection", (socket: Socket) => {
    const address = socket.remoteAddress ?? "";
    const count = (perAddress.get(address) ?? 0) + 1;
    perAddress.set(address, count);
    sockets.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      const left = (perAddress.get(address) ?? 1) - 1;
      if (left > 0) perAddress.set(address, left);
      else perAddress.delete(address);
    });
    if (count <= maxConnectionsPerAddress) return;
    refused["too-many-connections-of-address"]++;
    socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(netError(error, `listening on TCP ${host}:${port}`)));
    server.listen({ host, port, exclusive: true, ...(sharesPort ? { reusePort: true } : {}) }, () => resolve());
  });
  return new StreamListener(server, sockets, refused, secure?.replace);
}

export class StreamListener {
  readonly address: SocketAddress;
  /** Connections that were closed at once since the start, by reason. */
  readonly refused: Readonly<Record<StreamRefusal, number>>;
  readonly #server: Server;
  readonly #sockets: ReadonlySet<Socket>;
  readonly #replace: ((credentials: StreamServerCredentials) => void) | undefined;

  constructor(
    server: Server,
    sockets: ReadonlySet<Socket>,
    refused: Readonly<Record<StreamRefusal, number>>,
    replace?: (credentials: StreamServerCredentials) => void,
  ) {
    this.refused = refused;
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

/** `maxConnections`, or `maxConnectionsPerAddress`. */
export type StreamRefusal = "too-many-connections" | "too-many-connections-of-address";

export interface StreamListenOptions {
  /** An address literal. Default 0.0.0.0. */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
  readonly tls?: StreamServerTls;
  /** Default 10,000; further ones are closed at once. */
  readonly maxConnections?: number;
  /** The same for one IP address. Default 1,000. Low: a large site behind one address does not get in. */
  readonly maxConnectionsPerAddress?: number;
  /** As of a UDP socket: several processes may listen on the port. Default false. */
  readonly sharesPort?: boolean;
}

export interface StreamServerTls extends StreamServerCredentials {
  readonly clientCertificate: "none" | "request" | "require";
  readonly verify: Verify;
  readonly onHandshakeFailed?: (remote: SocketAddress, error: unknown) => void;
}

/** What a server proves itself by; without either no handshake succeeds. */
export interface StreamServerCredentials {
  readonly certificate?: CertificateCredential;
  /** The key of an identity; node's TLS does not wait for one. Absent: no PSK suite is taken. */
  readonly pskOf?: (identity: Uint8Array) => Uint8Array | undefined;
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
      return checkedKey(key);
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
  return { ...TLS_COMMON, ...(certificate === undefined ? {} : pemOf(certificate)), ciphers: ciphers.join(":") };
}

function placeOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? ""} ${remotePort ?? 0}`;
}

const DEFAULT_MAX_CONNECTIONS = 10_000;
const DEFAULT_MAX_PER_ADDRESS = 1000;
const HANDSHAKE_TIMEOUT_MS = 30_000;
const NOWHERE: SocketAddress = { address: "", port: 0 };
const TEXT_ENCODER = new TextEncoder();
