import { CIPHER_SUITE_NAMES, type ClientOptions, type ServerOptions } from "#dtls/index.js";
import { DtlsEndpoint, verifiableTypes } from "./dtls-endpoint.js";
import type { DtlsSession } from "./dtls-session.js";
import type { EndpointOptions } from "./endpoint-options.js";
import { watchRefusals } from "./refusals.js";
import {
  boundToward,
  type LocalSocket,
  resolveHost,
  type SocketAddress,
  UdpSocket,
  type UdpSocketOptions,
} from "./udp-socket.js";

/** Listens for DTLS. `onSession` is called when a handshake is complete. @throws NetError, DtlsError DTLS_BAD_OPTION. */
export async function listen(
  onSession: (session: DtlsSession) => void,
  options: EndpointOptions & { readonly server: ServerOptions } & UdpSocketOptions,
): Promise<DtlsEndpoint> {
  let socket: UdpSocket | undefined;
  let endpoint: DtlsEndpoint | undefined;
  try {
    socket = await UdpSocket.bind(options);
    endpoint = new DtlsEndpoint(socket, options, onSession);
    const counts = endpoint.restore();
    if (options.associations !== undefined) options.onRestored?.(counts);
    return endpoint;
  } catch (error) {
    if (endpoint === undefined) {
      options.associations?.close();
      await socket?.close();
    } else await endpoint.close();
    throw error;
  }
}

/**
 * Opens a session on a socket of its own, which is closed with it. Wait for `opened`.
 *
 * @throws NetError NET_NAME_NOT_FOUND and those of binding; DtlsError DTLS_BAD_OPTION. `opened` fails as the handshake does.
 */
export async function connect(
  remote: { readonly host: string; readonly port: number },
  options: ConnectOptions,
): Promise<DtlsSession> {
  const address = await resolveHost(remote.host);
  const to = { address, port: remote.port };
  const local = boundToward(address, options.local);
  const socket = options.endsOnRefusal === true ? await boundForGood(local) : await UdpSocket.bind(local);
  const { verify, verifyRawPublicKey, joinsRecords, onFault } = options;
  const endpoint = new DtlsEndpoint(socket, {
    ...(verify === undefined ? {} : { verify }),
    ...(verifyRawPublicKey === undefined ? {} : { verifyRawPublicKey }),
    ...(joinsRecords === undefined ? {} : { joinsRecords }),
    ...(onFault === undefined ? {} : { onFault }),
  });
  try {
    if (options.endsOnRefusal === true) await socket.connect(to);
    const session = endpoint.connect(to, withUsableOffers(options));
    if (options.endsOnRefusal === true) endOnRefusal(session, socket, to);
    void session.closed.then(() => socket.close());
    return session;
  } catch (error) {
    await socket.close();
    throw error;
  }
}

/** Fulfilled with the session when its handshake is complete; `signal` ends the handshake. @throws as `opened` does. */
export async function untilOpened(session: DtlsSession, signal: AbortSignal): Promise<DtlsSession> {
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

export interface ConnectOptions
  extends ClientOptions, Pick<EndpointOptions, "verify" | "verifyRawPublicKey" | "joinsRecords" | "onFault"> {
  /**
   * Default false. true: a handshake fails with NET_CONNECTION_REFUSED, in the second that follows, when the server's host
   * says by ICMP that nobody listens there, to two flights in a row. Who can forge that delays us: for callers that try again.
   */
  readonly endsOnRefusal?: boolean;
  /** Where the socket is bound. Default: any address and port. */
  readonly local?: LocalSocket;
}

/**
 * A port that was chosen by its number stays when a socket is disconnected; one that the system chose is lost then, on Linux.
 * Where somebody else takes it meanwhile, another is tried.
 */
async function boundForGood(local: LocalSocket): Promise<UdpSocket> {
  if ((local.port ?? 0) !== 0) return UdpSocket.bind(local);
  for (let tries = 1; ; tries++) {
    const chosen = await UdpSocket.bind(local);
    const { port } = chosen.address;
    await chosen.close();
    try {
      return await UdpSocket.bind({ ...local, port });
    } catch (error) {
      if (tries === MAX_BIND_TRIES) throw error;
    }
  }
}

function endOnRefusal(session: DtlsSession, socket: UdpSocket, to: SocketAddress): void {
  const isHandshaking = (): boolean => session.state === "handshaking";
  watchRefusals(socket, to, isHandshaking, (refusal) => session.abandon(refusal));
  session.opened.then(
    () => socket.disconnect(),
    () => undefined,
  );
}

const MAX_BIND_TRIES = 5;

/** What no verifier stands behind would be refused, so it is not offered: neither the suites nor the certificate types. */
function withUsableOffers(
  options: ClientOptions & Pick<EndpointOptions, "verify" | "verifyRawPublicKey">,
): ClientOptions {
  const types = verifiableTypes(options);
  if (types.length > 0) return { ...options, peerCertificateTypes: options.peerCertificateTypes ?? types };
  if (options.psk === undefined || options.cipherSuites !== undefined) return options;
  return { ...options, cipherSuites: PSK_SUITES };
}

const PSK_SUITES = CIPHER_SUITE_NAMES.filter((suite) => suite.includes("PSK"));
