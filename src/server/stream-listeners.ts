import {
  type CoapEndpoint,
  listenStream,
  type SocketAddress,
  type StreamServerCredentials,
  type StreamServerTls,
} from "#net/index.js";
import type { ServerConfig } from "./server-config.js";

/**
 * Listens for CoAP over TCP and over TLS, where the configuration asks for them: the interfaces are the same as over UDP.
 *
 * @throws NetError NET_PORT_IN_USE and those of binding.
 */
export async function listenStreams(
  { host, coapTcp, coapsTcp }: ServerConfig["interfaces"]["dpe1"]["listen"],
  endpoint: CoapEndpoint,
  tls: StreamServerTls,
  sharesPort: boolean,
): Promise<StreamListeners> {
  const onStream: Parameters<typeof listenStream>[0] = (stream) => void endpoint.addStream(stream);
  const plain = coapTcp === undefined ? undefined : await listenStream(onStream, { host, port: coapTcp, sharesPort });
  try {
    const secure =
      coapsTcp === undefined ? undefined : await listenStream(onStream, { host, port: coapsTcp, tls, sharesPort });
    return {
      coapTcp: plain?.address,
      coapsTcp: secure?.address,
      replaceCredentials: (credentials) => secure?.replaceCredentials(credentials),
      close: async () => {
        await Promise.all([plain?.close(), secure?.close()]);
      },
    };
  } catch (error) {
    await plain?.close();
    throw error;
  }
}

export interface StreamListeners {
  readonly coapTcp: SocketAddress | undefined;
  readonly coapsTcp: SocketAddress | undefined;
  /** New handshakes use these; what those before opened goes on, until it is closed for a reason of its own. */
  replaceCredentials(credentials: StreamServerCredentials): void;
  close(): Promise<void>;
}
