import {
  type CoapEndpoint,
  listenStream,
  type SocketAddress,
  type StreamRefusal,
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
      refused: () => sum(plain?.refused, secure?.refused),
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

type Refusals = Readonly<Record<StreamRefusal, number>>;

function sum(plain: Refusals = NONE, secure: Refusals = NONE): Refusals {
  const of = (reason: StreamRefusal): number => plain[reason] + secure[reason];
  return {
    "too-many-connections": of("too-many-connections"),
    "too-many-connections-of-address": of("too-many-connections-of-address"),
  };
}

const NONE: Refusals = { "too-many-connections": 0, "too-many-connections-of-address": 0 };

export interface StreamListeners {
  readonly coapTcp: SocketAddress | undefined;
  readonly coapsTcp: SocketAddress | undefined;
  /** Connections that were closed at once since the start, by reason. */
  refused(): Refusals;
  /** New handshakes use these; what those before opened goes on, until it is closed for a reason of its own. */
  replaceCredentials(credentials: StreamServerCredentials): void;
  close(): Promise<void>;
}
