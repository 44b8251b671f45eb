import {
  type BlockwiseServerOptions,
  type EndpointLimits,
  type Options,
  NO_PAYLOAD,
  type QBlockParameters,
  type RequestMessage,
  type TransmissionParameters,
} from "#coap/index.js";
import {
  type Answer,
  type CoapConnection,
  CoapEndpoint,
  type DtlsEndpoint,
  type DtlsError,
  listen,
  listenStream,
  type ObservableResponse,
  type PskAnswer,
  type SocketAddress,
  type StreamedBody,
  type StreamedRequest,
  type StreamListener,
  type StreamServerTls,
  UdpSocket,
} from "#net/index.js";
import { loadCredentials, loadTrustAnchors, verifyPeerCertificates } from "#x509/index.js";
import { errorResponse, type HandlerResult, ResponseError, responseOf } from "./reply.js";
import type { Router } from "./router.js";
import { streamOf, type StreamedRoute } from "./streamed.js";

/**
 * Serves CoAP on UDP, DTLS, TCP and TLS, whichever are asked for. A handler that throws a {@link ResponseError} is answered for so; whatever else it
 * throws is 5.00 with no detail, and told to `onFault`.
 *
 * @throws NetError NET_PORT_IN_USE and those of binding; X509Error for PEM that cannot be used.
 */
export async function serve(
  handler: Handler | StreamedRoute | Router,
  options: ServeOptions = {},
): Promise<CoapServer> {
  const { handle, streamedFor } = routed(handler);
  const { maxAmplification, limits, parameters, blockwise, qBlock, understands, onFault } = options;
  const endpoint = new CoapEndpoint({
    onRequest: (message, connection) => answer(handle, message, new CoapRequest(message, connection)),
    ...(streamedFor === undefined
      ? {}
      : {
          onStream: (head: RequestMessage, connection: CoapConnection) => {
            const handleStream = streamedFor(head, connection);
            if (handleStream === undefined) return undefined;
            return ({ code, options: given, body }: StreamedRequest) => {
              const message = { code, options: given, payload: NO_PAYLOAD };
              return answer(handleStream, message, new CoapRequest(message, connection, body));
            };
          },
        }),
    ...(maxAmplification === undefined ? {} : { maxAmplification }),
    ...(limits === undefined ? {} : { limits }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(blockwise === undefined ? {} : { blockwise }),
    ...(qBlock === undefined ? {} : { qBlock }),
    ...(understands === undefined ? {} : { applicationOptions: understands }),
    ...(onFault === undefined ? {} : { onFault }),
  });
  const server = new CoapServer(endpoint);
  try {
    const { host = "0.0.0.0", dtls, tcp, tls } = options;
    const isPlainMeant = dtls === undefined && tcp === undefined && tls === undefined;
    const port = options.port ?? (isPlainMeant ? DEFAULT_PORT : undefined);
    if (port !== undefined) await server.listenPlain(host, port);
    if (dtls !== undefined) await server.listenSecure(host, dtls);
    if (tcp !== undefined) await server.listenTcp(host, tcp.port ?? DEFAULT_PORT);
    if (tls !== undefined) await server.listenTls(host, tls);
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

export type Handler = (request: CoapRequest) => HandlerResult | Promise<HandlerResult>;

/** A whole request, as a handler sees it. */
export class CoapRequest implements RequestMessage {
  readonly code: number;
  readonly options: Options;
  /** The whole body; empty where the handler is {@link streamed}. */
  readonly payload: Uint8Array;
  readonly #body: StreamedBody | undefined;
  /** The peer; a handler may send requests to it as well. */
  readonly connection: CoapConnection;

  constructor(message: RequestMessage, connection: CoapConnection, body?: StreamedBody) {
    this.#body = body;
    this.code = message.code;
    this.options = message.options;
    this.payload = message.payload;
    this.connection = connection;
  }

  /** The body as it comes, to be read once. */
  get body(): StreamedBody {
    return this.#body ?? streamOf(this.payload);
  }

  get path(): readonly string[] {
    return this.options.uriPath;
  }

  /** Uri-Query as name and value; of a name that is there twice the last one. */
  get query(): ReadonlyMap<string, string> {
    return new Map(
      this.options.uriQuery.map((part) => {
        const split = part.indexOf("=");
        return split < 0 ? [part, ""] : [part.slice(0, split), part.slice(split + 1)];
      }),
    );
  }

  get contentFormat(): number | undefined {
    return this.options.contentFormat;
  }

  /** The payload as UTF-8 text. */
  text(): string {
    return TEXT_DECODER.decode(this.payload);
  }
}

/** A server that listens. */
export class CoapServer {
  readonly endpoint: CoapEndpoint;
  #plain: UdpSocket | undefined;
  #dtls: DtlsEndpoint | undefined;
  #tcp: StreamListener | undefined;
  #tls: StreamListener | undefined;

  constructor(endpoint: CoapEndpoint) {
    this.endpoint = endpoint;
  }

  /** Where it listens for plain CoAP. */
  get address(): SocketAddress | undefined {
    return this.#plain?.address;
  }

  /** Where it listens for DTLS. */
  get secureAddress(): SocketAddress | undefined {
    return this.#dtls?.address;
  }

  /** Where it listens for TCP. */
  get tcpAddress(): SocketAddress | undefined {
    return this.#tcp?.address;
  }

  /** Where it listens for TLS. */
  get tlsAddress(): SocketAddress | undefined {
    return this.#tls?.address;
  }

  /** Ends what is under way, and closes the sockets. */
  async close(): Promise<void> {
    await Promise.all([this.#dtls?.close(), this.#tcp?.close(), this.#tls?.close()]);
    await this.endpoint.close();
  }

  /** For {@link serve}. */
  async listenPlain(host: string, port: number): Promise<void> {
    this.#plain = await UdpSocket.bind({ host, port });
    this.endpoint.addSocket(this.#plain);
  }

  /** For {@link serve}. */
  async listenTcp(host: string, port: number): Promise<void> {
    this.#tcp = await listenStream((stream) => void this.endpoint.addStream(stream), { host, port });
  }

  /** For {@link serve}. */
  async listenTls(host: string, options: TlsServeOptions): Promise<void> {
    const { port = DEFAULT_SECURE_PORT, pskOf, certificate, privateKey, ca, onHandshakeFailed } = options;
    const anchors = ca === undefined ? [] : loadTrustAnchors(ca);
    const tls: StreamServerTls = {
      clientCertificate: ca === undefined ? "none" : (options.clientCertificate ?? "require"),
      verify: (certificates) =>
        verifyPeerCertificates(certificates, { anchors, purpose: "clientAuth", atMs: Date.now() }),
      ...(certificate === undefined ? {} : { certificate: loadCredentials(certificate, privateKey ?? certificate) }),
      ...(pskOf === undefined
        ? {}
        : {
            pskOf: (identity) => {
              const key = pskOf(IDENTITY_DECODER.decode(identity));
              return typeof key === "string" ? new TextEncoder().encode(key) : key;
            },
          }),
      ...(onHandshakeFailed === undefined ? {} : { onHandshakeFailed }),
    };
    this.#tls = await listenStream((stream) => void this.endpoint.addStream(stream), { host, port, tls });
  }

  /** For {@link serve}. */
  async listenSecure(host: string, options: DtlsServeOptions): Promise<void> {
    const { port = DEFAULT_SECURE_PORT, pskOf, certificate, privateKey, ca, onHandshakeFailed } = options;
    const anchors = ca === undefined ? [] : loadTrustAnchors(ca);
    this.#dtls = await listen((session) => this.endpoint.addSession(session), {
      host,
      port,
      server: {
        pskEnabled: pskOf !== undefined,
        clientCertificate: ca === undefined ? "none" : (options.clientCertificate ?? "require"),
        ...(certificate === undefined ? {} : { certificate: loadCredentials(certificate, privateKey ?? certificate) }),
      },
      verify: (certificates) =>
        verifyPeerCertificates(certificates, { anchors, purpose: "clientAuth", atMs: Date.now() }),
      ...(pskOf === undefined
        ? {}
        : {
            pskOf: async (identity) => {
              const key = await pskOf(IDENTITY_DECODER.decode(identity));
              return typeof key === "string" ? new TextEncoder().encode(key) : key;
            },
          }),
      ...(onHandshakeFailed === undefined ? {} : { onHandshakeFailed }),
    });
  }
}

export interface ServeOptions {
  /** CoAP over TCP (RFC 8323). Its port is 5683 by default. */
  readonly tcp?: { readonly port?: number };
  readonly tls?: TlsServeOptions;
  /** Default 0.0.0.0. An address literal. */
  readonly host?: string;
  /** Of plain CoAP. Default 5683, or none where there is `dtls`; 0: any free port. */
  readonly port?: number;
  readonly dtls?: DtlsServeOptions;
  /** As the CoapEndpoint's: default 3 times a request's bytes before the address has shown by Echo that it receives. */
  readonly maxAmplification?: number;
  readonly limits?: Partial<EndpointLimits>;
  readonly parameters?: Partial<TransmissionParameters>;
  readonly blockwise?: Partial<BlockwiseServerOptions>;
  /** Default none: no Q-Block (RFC 9177). `{}`: with the RFC's parameters; bodies are whole in memory then, within `blockwise`. */
  readonly qBlock?: Partial<QBlockParameters>;
  /** Numbers of critical options that the handlers obey, such as `OPTION.IfMatch`; others are refused with 4.02. */
  readonly understands?: readonly number[];
  readonly onFault?: (error: unknown) => void;
}

/** As for DTLS; but a key is to be known at once, since TLS does not wait. Its port is 5684 by default. */
export interface TlsServeOptions extends Omit<DtlsServeOptions, "pskOf" | "onHandshakeFailed"> {
  readonly pskOf?: (identity: string) => Uint8Array | string | undefined;
  readonly onHandshakeFailed?: (remote: SocketAddress, error: unknown) => void;
}

export interface DtlsServeOptions {
  /** Default 5684; 0: any free port. */
  readonly port?: number;
  /** The key of an identity, as bytes or text; undefined: unknown. */
  readonly pskOf?: (identity: string) => PskAnswer | string | Promise<PskAnswer | string>;
  /** The server's certificate and private key: PEM, leaf first. */
  readonly certificate?: string;
  readonly privateKey?: string;
  /** Trust anchors for clients' certificates: PEM. Default: none is asked for. */
  readonly ca?: string;
  /** Default "require" where there is `ca`. */
  readonly clientCertificate?: "request" | "require";
  readonly onHandshakeFailed?: (remote: SocketAddress, error: DtlsError | undefined) => void;
}

function routed(handler: Handler | StreamedRoute | Router): {
  readonly handle: Handler;
  /** The handler of a request that is to be streamed. */
  readonly streamedFor?: (head: RequestMessage, connection: CoapConnection) => Handler | undefined;
} {
  if (typeof handler === "function") return { handle: handler };
  if ("streamed" in handler) {
    const handle: Handler = (request) => handler.streamed(request, {});
    return { handle, streamedFor: () => handle };
  }
  return {
    handle: handler.handle,
    streamedFor: (head, connection) =>
      handler.hasStreamed ? handler.streamedFor(new CoapRequest(head, connection)) : undefined,
  };
}

/** At once where the handler answers at once: a promise costs more than all else that is done here. */
function answer(handle: Handler, message: RequestMessage, request: CoapRequest): Answer {
  try {
    const result = handle(request);
    if (isThenable(result)) return answerLater(message, result);
    return responseOf(message, result);
  } catch (error) {
    return refusalFor(error);
  }
}

async function answerLater(message: RequestMessage, result: PromiseLike<HandlerResult>): Promise<ObservableResponse> {
  try {
    return responseOf(message, await result);
  } catch (error) {
    return refusalFor(error);
  }
}

function isThenable(result: HandlerResult | PromiseLike<HandlerResult>): result is PromiseLike<HandlerResult> {
  return typeof (result as Partial<PromiseLike<HandlerResult>> | undefined)?.then === "function";
}

/** @throws what is no refusal. */
function refusalFor(error: unknown): ObservableResponse {
  if (error instanceof ResponseError) return errorResponse(error);
  throw error;
}

const TEXT_DECODER = new TextDecoder();
/** Nothing is left out, by which one identity could be taken for another. */
const IDENTITY_DECODER = new TextDecoder("utf-8", { ignoreBOM: true });
const DEFAULT_PORT = 5683;
const DEFAULT_SECURE_PORT = 5684;
