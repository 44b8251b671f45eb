import { CIPHER_SUITES, type CipherSuiteName, type ClientOptions, type ServerOptions } from "#dtls/index.js";
import { DtlsEndpoint, verifiableTypes } from "./dtls-endpoint.js";
import type { DtlsSession } from "./dtls-session.js";
import type { EndpointOptions } from "./endpoint-options.js";
import { boundToward, type LocalSocket, resolveHost, UdpSocket, type UdpSocketOptions } from "./udp-socket.js";

/** Listens for DTLS. `onSession` is called when a handshake is complete. @throws NetError, DtlsError DTLS_BAD_OPTION. */
export async function listen(
  onSession: (session: DtlsSession) => void,
  options: EndpointOptions & { readonly server: ServerOptions } & UdpSocketOptions,
): Promise<DtlsEndpoint> {
  const socket = await UdpSocket.bind(options).catch((error: unknown) => {
    options.associations?.close();
    throw error;
  });
  const endpoint = new DtlsEndpoint(socket, options, onSession);
  const counts = endpoint.restore();
  if (options.associations !== undefined) options.onRestored?.(counts);
  return endpoint;
}

/**
 * Opens a session on a socket of its own, which is closed with it. Wait for `opened`.
 *
 * @throws NetError NET_NAME_NOT_FOUND and those of binding; DtlsError DTLS_BAD_OPTION.
 */
export async function connect(
  remote: { readonly host: string; readonly port: number },
  options: ClientOptions &
    Pick<EndpointOptions, "verify" | "verifyRawPublicKey" | "joinsRecords" | "onFault"> & {
      readonly local?: LocalSocket;
    },
): Promise<DtlsSession> {
  const address = await resolveHost(remote.host);
  const socket = await UdpSocket.bind(boundToward(address, options.local));
  const { verify, verifyRawPublicKey, joinsRecords, onFault } = options;
  const endpoint = new DtlsEndpoint(socket, {
    ...(verify === undefined ? {} : { verify }),
    ...(verifyRawPublicKey === undefined ? {} : { verifyRawPublicKey }),
    ...(joinsRecords === undefined ? {} : { joinsRecords }),
    ...(onFault === undefined ? {} : { onFault }),
  });
  try {
    const session = endpoint.connect({ address, port: remote.port }, withUsableOffers(options));
    void session.closed.then(() => socket.close());
    return session;
  } catch (error) {
    await socket.close();
    throw error;
  }
}

/** What no verifier stands behind would be refused, so it is not offered: neither the suites nor the certificate types. */
function withUsableOffers(
  options: ClientOptions & Pick<EndpointOptions, "verify" | "verifyRawPublicKey">,
): ClientOptions {
  const types = verifiableTypes(options);
  if (types.length > 0) return { ...options, peerCertificateTypes: options.peerCertificateTypes ?? types };
  if (options.psk === undefined || options.cipherSuites !== undefined) return options;
  return { ...options, cipherSuites: PSK_SUITES };
}

const PSK_SUITES = (Object.keys(CIPHER_SUITES) as CipherSuiteName[]).filter((suite) => suite.includes("PSK"));
