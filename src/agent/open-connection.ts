import { decodeCbor } from "#cbor/index.js";
import { CODE, OPTION, Options } from "#coap/index.js";
import { CONTENT_FORMAT, PATH } from "#dpe/index.js";
import {
  type CoapConnection,
  type CoapEndpoint,
  connect,
  connectStream,
  type StreamClientTls,
  UdpSocket,
} from "#net/index.js";
import { SecurityError } from "#security/index.js";
import type { ServerConfig } from "./server-list.js";
import { clientPolicy, dtlsOptions, isBelow, leastConnection } from "./server-authentication.js";

/**
 * Opens the connection that the agent's own policy asks for, at least: where the server's URI says less, over DTLS at the port
 * that the server names, in a refusal or at `GET /dpe1`. That answer is plain and anybody may have written it, so it decides
 * about the port and nothing else; who answers there is for the handshake to prove.
 *
 * @throws NetError, DtlsError; SecurityError, X509Error as `dtlsOptions`.
 */
export async function openConnection(
  config: ServerConfig,
  endpoint: CoapEndpoint,
  dial: Dial,
): Promise<CoapConnection> {
  const { isRaised, port, signal, address } = dial;
  const { scheme } = config.server;
  const least = isRaised ? "dtls" : leastConnection(clientPolicy(config.interfaces.dpe1));
  if (scheme === "coaps+tcp") return openTls(config, endpoint, dial);
  if (scheme === "coap+tcp") {
    // Over TCP there is no port to ask for: the policy is met by the URI or not at all.
    if (isBelow("none", least))
      throw new SecurityError(
        "SECURITY_CONNECTION_BELOW_POLICY",
        `${config.server.href} is not ${least}: coaps+tcp is`,
      );
    return endpoint.addStream(await connectStream({ host: address, port: config.server.port }, { signal }));
  }
  if (scheme === "coaps") return openSecure(config, endpoint, config.server.port, dial);
  if (!isBelow("none", least)) return openPlain(address, config.server.port, endpoint);
  const securePort = port ?? (await discoverPort(config, endpoint, dial)) ?? DEFAULT_COAPS_PORT;
  return openSecure(config, endpoint, securePort, dial);
}

/** Where to, and what is known of it from before. */
export interface Dial {
  /** The address literal of the server that is tried. */
  readonly address: string;
  /** A handshake that is not answered ends after so long, ms. */
  readonly handshakeTimeoutMs: number;
  /** What resumes an earlier session with this server; see `DtlsSession.resumption`. */
  readonly session: Uint8Array | undefined;
  /** The server asked for DTLS. */
  readonly isRaised: boolean;
  /** The port that it named then. */
  readonly port: number | undefined;
  readonly signal: AbortSignal;
}

async function openPlain(address: string, port: number, endpoint: CoapEndpoint): Promise<CoapConnection> {
  const socket = await UdpSocket.bind({ host: address.includes(":") ? "::" : "0.0.0.0" });
  return endpoint.addSocket(socket).connectTo({ address, port });
}

async function openSecure(
  config: ServerConfig,
  endpoint: CoapEndpoint,
  port: number,
  { address, handshakeTimeoutMs, session: resumed, signal }: Dial,
): Promise<CoapConnection> {
  const session = await connect(
    { host: address, port },
    {
      ...dtlsOptions(config),
      mtuBytes: config.mtu,
      handshakeTimeoutMs,
      endsOnRefusal: true,
      ...(resumed === undefined ? {} : { session: resumed }),
    },
  );
  const giveUp = (): void => void session.close();
  if (signal.aborted) giveUp();
  signal.addEventListener("abort", giveUp, { once: true });
  await session.opened.finally(() => signal.removeEventListener("abort", giveUp));
  return endpoint.addSession(session);
}

/** RFC 8323 over TLS, by the same credentials and the same verification as over DTLS. */
async function openTls(
  config: ServerConfig,
  endpoint: CoapEndpoint,
  { address, signal }: Dial,
): Promise<CoapConnection> {
  const { port } = config.server;
  const { cipherSuites = [], psk, certificate, serverName, verify = NOBODY } = dtlsOptions(config);
  const usesPsk = psk !== undefined && cipherSuites.every((suite) => suite.includes("PSK"));
  const tls: StreamClientTls = {
    verify,
    ...(usesPsk ? { psk } : {}),
    ...(certificate === undefined ? {} : { certificate }),
    ...(serverName === undefined ? {} : { serverName }),
  };
  return endpoint.addStream(await connectStream({ host: address, port }, { tls, signal }));
}

/** The port for DTLS by `GET /dpe1`; undefined where that is not answered, or not as the binding says. */
async function discoverPort(
  config: ServerConfig,
  endpoint: CoapEndpoint,
  { address, signal }: Dial,
): Promise<number | undefined> {
  const { port } = config.server;
  const options = Options.none.with(OPTION.UriPath, PATH.dpe1).with(OPTION.Accept, CONTENT_FORMAT.cbor);
  try {
    const connection = await openPlain(address, port, endpoint);
    const timeout = AbortSignal.any([signal, AbortSignal.timeout(DISCOVERY_TIMEOUT_MS)]);
    const { code, payload } = await connection.request(
      { code: CODE.GET, options, payload: new Uint8Array(0) },
      { signal: timeout },
    );
    return code === CODE.Content ? portIn(decodeCbor(payload)) : undefined;
  } catch {
    return undefined;
  }
}

function portIn(answer: unknown): number | undefined {
  const dpe1 = fieldOf(answer, "dpe1");
  const port = fieldOf(dpe1, "coaps");
  return typeof port === "number" && Number.isInteger(port) && port >= 1 && port <= 65_535 ? port : undefined;
}

function fieldOf(map: unknown, name: string): unknown {
  return map instanceof Map ? map.get(name) : undefined;
}

const NOBODY: StreamClientTls["verify"] = () => ({
  ok: false,
  alert: "unknown_ca",
  reason: "no certificate was expected",
});
const DISCOVERY_TIMEOUT_MS = 5000;
/** RFC 7252 §6.2 */
const DEFAULT_COAPS_PORT = 5684;
