import {
  CoapError,
  type CoapErrorCode,
  type CoapTarget,
  decomposeUri,
  type EndpointLimits,
  OPTION,
  Options,
  type QBlockParameters,
  type TransmissionParameters,
} from "#coap/index.js";
import {
  boundToward,
  type CoapConnection,
  CoapEndpoint,
  connectStream,
  formatAddress,
  type LocalSocket,
  type NetError,
  type Observation,
  type PlainTransport,
  resolveHost,
  type SocketAddress,
  type StreamedBody,
  UdpSocket,
  watchRefusals,
} from "#net/index.js";
import { MAX_TIMER_MS, pause } from "#waiting/index.js";
import { CoapResponse } from "./coap-response.js";
import { leftAtOnce } from "./left-at-once.js";
import { LinkedSignal } from "./linked-signal.js";
import { CoapStreamedResponse } from "./streamed-response.js";
import { isStreamed, streamOf } from "./streamed.js";
import { type Credentials, openSession, tlsOptions } from "./credentials.js";
import { type RequestInit, requestMessage } from "./request-init.js";

/**
 * A CoAP client for any number of servers: sockets, DTLS sessions and TCP connections are opened when they are first needed and used again
 * for the same origin, and anew where one was lost. Close it when it is done, or it keeps the process alive.
 *
 * Whatever fails does so by a `code`: CoapError (COAP_TIMEOUT, COAP_CANCELLED, COAP_RESET…), NetError (NET_NAME_NOT_FOUND…),
 * DtlsError, X509Error. An error response is no failure: look at `ok`.
 */
export class CoapClient {
  readonly #options: CoapClientOptions;
  readonly #endpoint: CoapEndpoint;
  readonly #connections = new Map<string, Promise<CoapConnection>>();
  readonly #closing = new AbortController();
  readonly #proxy: CoapTarget | undefined;
  readonly #plain = new Map<string, Promise<PlainSocket>>();

  constructor(options: CoapClientOptions = {}) {
    this.#options = options;
    const { parameters, limits, dangerFirstToken, qBlock = {} } = options;
    this.#proxy = options.proxy === undefined ? undefined : decomposeUri(options.proxy);
    this.#endpoint = new CoapEndpoint({
      qBlock,
      ...(parameters === undefined ? {} : { parameters }),
      ...(limits === undefined ? {} : { limits }),
      ...(dangerFirstToken === undefined ? {} : { dangerFirstToken }),
    });
  }

  /** Sends a request, in blocks where it or its response is long. @throws as the class says, and COAP_BAD_URI. */
  async request(uri: string, init: RequestInit = {}): Promise<CoapResponse> {
    const target = this.#targetOf(uri);
    const { payload } = init;
    if (isStreamed(payload)) {
      const streamed = await this.stream(uri, { ...init, payload });
      const { code, options } = streamed;
      return new CoapResponse({ code, options, payload: await streamed.bytes(init.maxBodyBytes) });
    }
    const message = requestMessage(target.options, init);
    return new CoapResponse(
      await within(init, async (signal) => (await this.#connectionTo(target)).request(message, { ...init, ...signal })),
    );
  }

  /**
   * As {@link request}, but no body is ever whole in memory: a payload that is an async iterable or a ReadableStream of bytes
   * is read as its blocks are sent, the response's body as the caller reads it. `timeoutMs` holds until the response begins,
   * `signal` to the end of its body. @throws as the class says, and COAP_BLOCK_MISMATCH where the server wants a body that
   * is read already once more, or the resource changes while it is read.
   */
  async stream(uri: string, init: RequestInit = {}): Promise<CoapStreamedResponse> {
    const target = this.#targetOf(uri);
    const { payload, signal: outer } = init;
    const body = isStreamed(payload) ? payload : undefined;
    const message = requestMessage(target.options, init);
    const rest = body ?? (message.payload.length > 0 ? streamOf(message.payload) : undefined);
    const either = new LinkedSignal(outer);
    const { signal } = either;
    try {
      const { body: read, ...head } = await within(init, async () =>
        (await this.#connectionTo(target)).stream(message, rest, { ...init, signal }),
      );
      if (head.isWhole) either.release();
      return new CoapStreamedResponse({ ...head, body: tellingEnd(read, () => either.release()) });
    } catch (error) {
      // What a time-out leaves under way is ended too.
      either.abort(error);
      throw error;
    }
  }

  /**
   * Observes a resource (RFC 7641) until the iteration is left, or `signal` aborts. Where the DTLS association or the
   * connection below is lost, as behind a NAT that forgot it and without connection identifiers, the resource is observed
   * over a new one.
   */
  observe(uri: string, init: RequestInit = {}): CoapObservation {
    let connection: CoapConnection | undefined;
    const open = async (signal: AbortSignal): Promise<Observation> => {
      const target = this.#targetOf(uri);
      const message = requestMessage(target.options, init);
      const { timeoutMs } = init;
      return within({ signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) }, async (either) => {
        // Asked for a second time: nobody answers over the one before.
        await connection?.close();
        connection = await this.#connectionTo(target);
        return connection.observe(message, { ...init, ...either });
      });
    };
    const isLost = (error: unknown): boolean =>
      error instanceof CoapError &&
      LOSS_OF_CONNECTION.has(error.code) &&
      connection?.transport !== undefined &&
      !this.#closing.signal.aborted;
    return new CoapObservation({ open, isLost }, init.signal);
  }

  /** Fulfilled when the server shows that it lives (RFC 7252 §4.3). @throws as the class says. */
  async ping(uri: string, init: Pick<RequestInit, "signal" | "timeoutMs"> = {}): Promise<void> {
    await within(init, async (signal) => (await this.#connectionTo(this.#targetOf(uri))).ping(signal));
  }

  /** Ends what is under way with COAP_PEER_CLOSED, as whatever is asked for later, and closes all sockets. */
  async close(): Promise<void> {
    this.#closing.abort();
    const connections = await Promise.allSettled(this.#connections.values());
    this.#connections.clear();
    const open = connections.flatMap((opened) => (opened.status === "fulfilled" ? [opened.value] : []));
    await Promise.all(open.map((connection) => connection.close()));
    await Promise.allSettled(this.#plain.values());
    await this.#endpoint.close();
  }

  /** RFC 7252 §5.7.2, §5.10.2: what goes to a proxy says where to by Proxy-Uri alone. */
  #targetOf(uri: string): CoapTarget {
    const target = decomposeUri(uri);
    if (this.#proxy === undefined) return target;
    if (new TextEncoder().encode(uri).length > MAX_PROXY_URI_BYTES)
      throw new CoapError("COAP_BAD_URI", `${uri} is longer than the ${MAX_PROXY_URI_BYTES} bytes of Proxy-Uri`);
    return { ...this.#proxy, options: Options.none.with(OPTION.ProxyUri, uri) };
  }

  async #connectionTo(target: CoapTarget): Promise<CoapConnection> {
    const origin = `${target.scheme}://${target.host}:${target.port}`;
    const forget = (opening: Promise<CoapConnection>): void => {
      if (this.#connections.get(origin) === opening) this.#connections.delete(origin);
    };
    for (;;) {
      const known = this.#connections.get(origin);
      if (known === undefined) break;
      const connection = await known;
      if (!connection.isClosed) return connection;
      // Of several that find it closed one opens the next, which the others wait for.
      forget(known);
    }
    if (this.#closing.signal.aborted) throw new CoapError("COAP_PEER_CLOSED", "the client is closed");
    const opening = this.#open(target);
    this.#connections.set(origin, opening);
    // A failure is this request's alone: the next one tries again.
    opening.catch(() => forget(opening));
    return opening;
  }

  async #open(target: CoapTarget): Promise<CoapConnection> {
    const { scheme, host, port } = target;
    const { local = {}, dangerSkipAlpn = false } = this.#options;
    const signal = this.#closing.signal;
    switch (scheme) {
      case "coap":
        return this.#openPlain({ address: await resolveHost(host), port });
      case "coap+tcp":
        return this.#endpoint.addStream(await connectStream({ host, port }, { signal, local }));
      case "coaps+tcp": {
        const tls = tlsOptions(host, this.#options);
        return this.#endpoint.addStream(await connectStream({ host, port }, { tls, signal, local, dangerSkipAlpn }));
      }
      case "coaps":
        return this.#endpoint.addSession(await openSession(host, port, this.#options, signal, local));
    }
  }

  async #openPlain(to: SocketAddress): Promise<CoapConnection> {
    const endsOnRefusal = this.#options.endsOnRefusal === true;
    const { socket, transport } = await this.#plainSocket(to, endsOnRefusal);
    const connection = transport.connectTo(to);
    if (endsOnRefusal) this.#endOnRefusal(connection, socket);
    return connection;
  }

  /** One for all servers of an address family; where refusals are to be told, which a socket is of one peer only, one for each. */
  #plainSocket(to: SocketAddress, isOfOnePeer: boolean): Promise<PlainSocket> {
    const key = isOfOnePeer ? formatAddress(to) : to.address.includes(":") ? "IPv6" : "IPv4";
    let plain = this.#plain.get(key);
    if (plain === undefined) {
      plain = this.#bindPlain(to, isOfOnePeer);
      plain.catch(() => this.#plain.delete(key));
      this.#plain.set(key, plain);
    }
    return plain;
  }

  async #bindPlain(to: SocketAddress, isOfOnePeer: boolean): Promise<PlainSocket> {
    const socket = await UdpSocket.bind(boundToward(to.address, this.#options.local));
    const transport = this.#endpoint.addSocket(socket);
    if (isOfOnePeer) await socket.connect(to);
    return { socket, transport };
  }

  #endOnRefusal(connection: CoapConnection, socket: UdpSocket): void {
    let isHeard = false;
    connection.onHeard = () => {
      isHeard = true;
    };
    const end = (refusal: NetError): void =>
      this.#endpoint.closeConnection(
        connection,
        new CoapError("COAP_PEER_CLOSED", refusal.message, { cause: refusal }),
      );
    watchRefusals(socket, connection.remoteAddress, () => !isHeard, end);
  }
}

interface PlainSocket {
  readonly socket: UdpSocket;
  readonly transport: PlainTransport;
}

export interface CoapClientOptions extends Credentials {
  /** Where the client's sockets are bound. Default: any address, any free port. With a port of its own it is one socket's. */
  readonly local?: LocalSocket;
  /** The URI of a forward-proxy that all requests go to, such as `coap://[2001:db8::1]`; credentials are for it then. */
  readonly proxy?: string;
  /**
   * Default false. true: requests over plain UDP fail with COAP_PEER_CLOSED, with a first retransmission, when the server's host says by
   * ICMP that nobody listens there, and nothing was heard of it before. Who can forge that ends them: for callers that try
   * again. Each server has a socket of its own then. A DTLS handshake ends so in any case.
   */
  readonly endsOnRefusal?: boolean;
  readonly limits?: Partial<EndpointLimits>;
  /** Default false. true: for TLS servers on ports other than 5684 that do not name CoAP by ALPN, such as libcoap's. */
  readonly dangerSkipAlpn?: boolean;
  /** As the Endpoint's option of this name. */
  readonly dangerFirstToken?: Uint8Array;
  readonly parameters?: Partial<TransmissionParameters>;
  /** Of requests that are `robust` (RFC 9177). */
  readonly qBlock?: Partial<QBlockParameters>;
}

const MAX_PROXY_URI_BYTES = 1034;

/**
 * An observation: an async iterable of the first response and then of the newest state each time that it changes. It ends
 * after a response that is no notification, such as an error; it throws what `request` throws. Iterate it once.
 */
export class CoapObservation implements AsyncIterable<CoapResponse> {
  readonly #source: ObservationSource;
  readonly #outer: AbortSignal | undefined;

  constructor(source: ObservationSource, outer: AbortSignal | undefined) {
    this.#source = source;
    this.#outer = outer;
  }

  [Symbol.asyncIterator](): AsyncGenerator<CoapResponse, void, undefined> {
    const either = new LinkedSignal(this.#outer);
    return leftAtOnce(this.#responses(either), () => either.abort());
  }

  async *#responses(either: LinkedSignal): AsyncGenerator<CoapResponse, void, undefined> {
    const { signal } = either;
    let observation: Observation | undefined;
    const cancel = (): void => observation?.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    try {
      observation = await this.#source.open(signal);
      for (;;) {
        yield new CoapResponse(observation.first);
        try {
          for await (const response of observation) yield new CoapResponse(response);
          return;
        } catch (error) {
          if (signal.aborted || !this.#source.isLost(error)) throw error;
          observation = await this.#openAnew(signal, error);
        }
      }
    } catch (error) {
      // Whoever leaves the iteration has no use for how it ended.
      if (!signal.aborted || this.#outer?.aborted === true) throw error;
    } finally {
      either.release();
      cancel();
    }
  }

  /** @throws the loss, where the server is not to be had. */
  async #openAnew(signal: AbortSignal, loss: unknown): Promise<Observation> {
    for (const pauseMs of REOPENING_PAUSES_MS) {
      await pause(pauseMs, signal);
      if (signal.aborted) break;
      const opened = await this.#source.open(signal).catch(() => undefined);
      if (opened !== undefined) return opened;
    }
    throw loss;
  }
}

/** What a {@link CoapObservation} is made of. */
export interface ObservationSource {
  /** Observes the resource; when called again, over another connection. */
  open(signal: AbortSignal): Promise<Observation>;
  /** Whether an observation that failed so is to be opened again. */
  isLost(error: unknown): boolean;
}

const LOSS_OF_CONNECTION: ReadonlySet<CoapErrorCode> = new Set(["COAP_TIMEOUT", "COAP_PEER_CLOSED"]);
const REOPENING_PAUSES_MS = [0, 1000, 2000, 4000, 8000];

/** Runs an operation under the caller's signal and time-out, and tells by the error's code which of them ended it. */
async function within<T>(
  { signal, timeoutMs }: Pick<RequestInit, "signal" | "timeoutMs">,
  operation: (options: { readonly signal?: AbortSignal }) => Promise<T>,
): Promise<T> {
  if (signal === undefined && timeoutMs === undefined) return operation({});
  const either = new LinkedSignal(signal);
  let isLate = false;
  const failure = (): CoapError =>
    isLate
      ? new CoapError("COAP_TIMEOUT", `no response within ${timeoutMs} ms`)
      : new CoapError("COAP_CANCELLED", "the request was cancelled", { cause: signal?.reason });
  if (either.signal.aborted) throw failure();
  let timer: NodeJS.Timeout | undefined;
  try {
    // Opening a session does not look at the signal; whoever waits for it does.
    const aborted = new Promise<never>((_, reject) =>
      either.signal.addEventListener("abort", () => reject(failure()), { once: true }),
    );
    aborted.catch(() => undefined);
    const late = (): void => {
      isLate = true;
      either.abort();
    };
    if (timeoutMs !== undefined) timer = setTimeout(late, Math.min(timeoutMs, MAX_TIMER_MS));
    const outcome = operation({ signal: either.signal });
    outcome.catch(() => undefined);
    return await Promise.race([outcome, aborted]);
  } finally {
    clearTimeout(timer);
    either.release();
  }
}

/** Calls `done` when nothing more of a body is to come; a generator that was not begun would not, when it is left. */
function tellingEnd(body: StreamedBody, done: () => void): StreamedBody {
  const source = body[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    try {
      const result = await source.next();
      if (result.done === true) done();
      return result;
    } catch (error) {
      done();
      throw error;
    }
  };
  const leave = async (): Promise<IteratorResult<Uint8Array>> => {
    done();
    await source.return?.();
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next, return: leave }) };
}
