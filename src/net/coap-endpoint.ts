import { randomBytes } from "node:crypto";
import {
  BlockwiseServer,
  BlockwiseTransfer,
  type BlockwiseTransferOptions,
  CODE,
  CoapError,
  Endpoint,
  type EndpointCounters,
  type EndpointOutput,
  emptyResponse,
  encodeUint,
  type Exchange,
  type IncomingRequest,
  isSuccessCode,
  OPTION,
  type Peer,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import {
  CoapConnection,
  NotificationQueue,
  Observation,
  type PendingExchange,
  type RequestOptions,
} from "./coap-connection.js";
import { AmplificationGuard } from "./amplification-guard.js";
import type { Answer, CoapEndpointOptions, ObservableResponse, SendMessage } from "./coap-endpoint-options.js";
import type { DtlsSession } from "./dtls-session.js";
import { formatAddress, monotonicNow, type SocketAddress, type UdpSocket } from "./udp-socket.js";

/**
 * CoAP on sockets: one endpoint, client and server at once, over any number of DTLS sessions and plain UDP sockets.
 *
 * A request that arrives passes `onMessage` (where a server puts its security, message by message), then is put together
 * from blocks, then reaches `onRequest`. A request of ours passes `onSend`, block by block, where a client adds credentials.
 */
export class CoapEndpoint {
  readonly #options: CoapEndpointOptions;
  readonly #endpoint: Endpoint;
  readonly #blockwise: BlockwiseServer<CoapConnection>;
  readonly #amplification: AmplificationGuard;
  readonly #connections = new Map<Peer, CoapConnection>();
  readonly #pending = new Map<unknown, PendingExchange>();
  readonly #observers = new Map<IncomingRequest, () => void>();
  readonly #sockets: UdpSocket[] = [];
  #requestTag = randomBytes(4).readUInt32BE();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #isPumping = false;

  constructor(options: CoapEndpointOptions = {}) {
    this.#options = options;
    this.#endpoint = new Endpoint({
      random: pooledRandom(),
      ...(options.parameters === undefined ? {} : { parameters: options.parameters }),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      ...(options.applicationOptions === undefined ? {} : { applicationOptions: options.applicationOptions }),
      ...(options.optionFormats === undefined ? {} : { optionFormats: options.optionFormats }),
    });
    this.#amplification = new AmplificationGuard(options.maxAmplification ?? DEFAULT_MAX_AMPLIFICATION);
    this.#blockwise = new BlockwiseServer(options.blockwise);
  }

  get counters(): EndpointCounters {
    return this.#endpoint.counters;
  }

  get connections(): Iterable<CoapConnection> {
    return this.#connections.values();
  }

  /** Speaks CoAP over a DTLS session until it closes. */
  addSession(session: DtlsSession): CoapConnection {
    const peer = this.#endpoint.openPeer();
    const connection = new CoapConnection(this, peer, session.remoteAddress, session, (bytes) => {
      if (session.state === "connected") session.send(bytes);
    });
    this.#connections.set(peer, connection);
    session.onmessage = (data) => this.#receive(connection, data);
    session.onclose = () => this.closeConnection(connection);
    if (session.state === "closed") this.closeConnection(connection);
    return connection;
  }

  /** Serves plain CoAP on a socket; a connection is made for each address that is heard of, and forgotten when idle. */
  addSocket(socket: UdpSocket): PlainTransport {
    this.#sockets.push(socket);
    const limit = this.#options.maxPlainPeers ?? DEFAULT_MAX_PLAIN_PEERS;
    const connections = new Map<string, CoapConnection>();
    const connectionTo = (remote: SocketAddress): CoapConnection | undefined => {
      const key = `${remote.address} ${remote.port}`;
      let connection = connections.get(key);
      if (connection?.isClosed === true) connection = undefined;
      // The map is in order of use, so that the one idle longest is found first.
      connections.delete(key);
      if (connection === undefined) {
        if (connections.size >= limit && !this.#forgetIdle(connections)) return undefined;
        const address = { address: remote.address, port: remote.port };
        const peer = this.#endpoint.openPeer();
        connection = new CoapConnection(this, peer, address, undefined, (bytes) => socket.send(bytes, address));
        this.#connections.set(peer, connection);
      }
      connections.set(key, connection);
      return connection;
    };
    socket.onDatagram = (datagram, from) => {
      const connection = connectionTo(from);
      if (connection !== undefined) this.#receive(connection, datagram);
    };
    return {
      connectTo: (remote) => {
        const connection = connectionTo(remote);
        if (connection === undefined)
          throw new CoapError("COAP_LIMIT_REACHED", `${limit} peers are being spoken with already`);
        return connection;
      },
    };
  }

  /** For {@link CoapConnection}. */
  async request(
    connection: CoapConnection,
    request: RequestMessage,
    options: RequestOptions,
  ): Promise<ResponseMessage> {
    // RFC 9175 §3.5: bodies of one operation that are under way at once must not be taken for one another.
    const requestTag = encodeUint((this.#requestTag = (this.#requestTag + 1) % 2 ** 32));
    const transfer = new BlockwiseTransfer(request, { ...blockwiseOptions(options), requestTag });
    for (;;) {
      const response = transfer.handleResponse(await this.#send(connection, transfer.next(), options, undefined));
      if (response !== undefined) return response;
    }
  }

  /** For {@link CoapConnection}. */
  async observe(connection: CoapConnection, request: RequestMessage, options: RequestOptions): Promise<Observation> {
    const notifications = new NotificationQueue();
    const established: PendingExchange[] = [];
    const complete = async (first: ResponseMessage): Promise<ResponseMessage> => {
      const plain = { ...request, options: request.options.without(OPTION.Observe) };
      const transfer = new BlockwiseTransfer(plain, blockwiseOptions(options));
      transfer.next();
      for (let response = first; ;) {
        const whole = transfer.handleResponse(response);
        if (whole !== undefined) return whole;
        response = await this.#send(connection, transfer.next(), options, undefined);
      }
    };
    const source = new NotificationQueue();
    const { responseBlockBytes } = options;
    const asking =
      responseBlockBytes === undefined
        ? request
        : {
            ...request,
            options: request.options.withBlock2({ number: 0, hasMore: false, sizeBytes: responseBlockBytes }),
          };
    const first = await complete(await this.#send(connection, asking, options, { source, established }));
    void (async () => {
      try {
        for (let next = await source.next(); next.done !== true; next = await source.next())
          notifications.push(await complete(next.value));
        notifications.end();
      } catch (error) {
        notifications.end(error instanceof Error ? error : new Error(String(error)));
      }
    })();
    const pending = established.at(-1);
    if (pending === undefined || pending.exchange.state !== "observing") source.end();
    return new Observation(first, notifications, () => {
      if (pending !== undefined) {
        this.#pending.delete(pending.exchange);
        this.#endpoint.cancel(pending.exchange, monotonicNow());
        this.#pump();
      }
      source.end();
    });
  }

  /** For {@link CoapConnection}. */
  async ping(connection: CoapConnection, options: RequestOptions): Promise<void> {
    await this.#outcome(() => this.#endpoint.ping(connection.peer, monotonicNow()), options, undefined, undefined);
  }

  /** For {@link CoapConnection}. */
  closeConnection(connection: CoapConnection): void {
    if (connection.isClosed) return;
    this.#endpoint.closePeer(connection.peer, monotonicNow());
    this.#blockwise.closePeer(connection);
    this.#connections.delete(connection.peer);
    this.#pump();
    this.#options.onDisconnect?.(connection);
  }

  /** Ends all exchanges and closes the plain sockets; DTLS sessions are their endpoint's to close. */
  async close(): Promise<void> {
    for (const connection of this.#connections.values()) this.closeConnection(connection);
    clearTimeout(this.#timer);
    await Promise.all(this.#sockets.map((socket) => socket.close()));
  }

  #receive(connection: CoapConnection, datagram: Uint8Array): void {
    this.#endpoint.handleDatagram(connection.peer, datagram, monotonicNow());
    this.#pump();
  }

  /** One message of ours, by way of `onSend`; once more with the Echo that it is answered with (RFC 9175 §2.3). */
  async #send(
    connection: CoapConnection,
    message: RequestMessage,
    options: RequestOptions,
    observing: ObservingSend | undefined,
  ): Promise<ResponseMessage> {
    const send: SendMessage = (outgoing, isAccepted) =>
      this.#exchange(connection, outgoing, options, observing, isAccepted);
    const { onSend } = this.#options;
    const sendBy = (outgoing: RequestMessage): Promise<ResponseMessage> =>
      onSend === undefined ? send(outgoing) : onSend(outgoing, connection, send, options.context);
    const response = await sendBy(message);
    const echo = response.code === CODE.Unauthorized ? response.options.get(OPTION.Echo) : undefined;
    if (echo === undefined || message.options.has(OPTION.Echo)) return response;
    return sendBy({ ...message, options: message.options.with(OPTION.Echo, echo) });
  }

  #exchange(
    connection: CoapConnection,
    message: RequestMessage,
    options: RequestOptions,
    observing: ObservingSend | undefined,
    isAccepted: PendingExchange["isAccepted"],
  ): Promise<ResponseMessage> {
    const begin = (): Exchange => this.#endpoint.request(connection.peer, message, monotonicNow());
    return this.#outcome(begin, options, observing, isAccepted);
  }

  /** Begins an exchange and gives its first response. */
  #outcome(
    begin: () => Exchange,
    { signal }: RequestOptions,
    observing: ObservingSend | undefined,
    isAccepted: PendingExchange["isAccepted"],
  ): Promise<ResponseMessage> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(new CoapError("COAP_CANCELLED", "the request was cancelled", { cause: signal.reason }));
        return;
      }
      const exchange = begin();
      const onAbort = (): void => {
        this.#pending.delete(exchange);
        this.#endpoint.cancel(exchange, monotonicNow());
        this.#pump();
        reject(new CoapError("COAP_CANCELLED", "the request was cancelled", { cause: signal?.reason }));
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      const pending: PendingExchange = {
        exchange,
        resolve: (response) => {
          signal?.removeEventListener("abort", onAbort);
          resolve(response);
        },
        reject: (error) => {
          signal?.removeEventListener("abort", onAbort);
          reject(error);
        },
        notifications: observing?.source,
        isAccepted,
      };
      observing?.established.push(pending);
      this.#pending.set(exchange, pending);
      this.#pump();
    });
  }

  /** Carries out what the CoAP layer asks for, until there is nothing left; a call from within changes nothing. */
  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    for (let output = this.#endpoint.poll(); output !== undefined; output = this.#endpoint.poll())
      this.#carryOut(output);
    this.#isPumping = false;
    this.#setTimer();
  }

  #carryOut(output: EndpointOutput): void {
    switch (output.type) {
      case "datagram":
        this.#connections.get(output.peer)?.transmit(output.bytes);
        return;
      case "request":
        this.#answer(output.incoming);
        return;
      case "response": {
        const pending = this.#pending.get(output.exchange);
        if (output.exchange.state !== "observing") this.#pending.delete(output.exchange);
        // Whoever knows our token receives at its address.
        const connection = this.#connections.get(output.exchange.peer);
        if (connection !== undefined && output.response.code !== CODE.Empty) connection.isVerified = true;
        pending?.resolve(output.response);
        return;
      }
      case "notification": {
        const { notifications, isAccepted } = this.#pending.get(output.exchange) ?? {};
        if (isAccepted?.(output.response) !== false) notifications?.push(output.response);
        if (output.exchange.state !== "observing") {
          this.#pending.delete(output.exchange);
          notifications?.end();
        }
        return;
      }
      case "failed": {
        const pending = this.#pending.get(output.exchange);
        this.#pending.delete(output.exchange);
        // Before its first response an exchange's promise fails; after it, the observation's iteration does.
        pending?.reject(output.error);
        pending?.notifications?.end(output.error);
        return;
      }
      case "observation-ended":
        this.#observers.get(output.incoming)?.();
        this.#observers.delete(output.incoming);
        return;
    }
  }

  #answer(incoming: IncomingRequest): void {
    const connection = this.#connections.get(incoming.peer);
    if (connection === undefined) return;
    if (!connection.isVerified) {
      const remote = formatAddress(connection.remoteAddress);
      connection.isVerified = this.#amplification.isProof(incoming, remote, monotonicNow());
    }
    const serve = (message: RequestMessage, context?: unknown): Answer => this.#serve(message, connection, context);
    try {
      const { onMessage } = this.#options;
      const answer = onMessage === undefined ? serve(incoming) : onMessage(incoming, connection, serve);
      if (answer instanceof Promise) {
        void answer.then(
          (response) => this.#respond(incoming, connection, response),
          (error: unknown) => this.#fail(incoming, connection, error),
        );
      } else {
        this.#respond(incoming, connection, answer);
      }
    } catch (error) {
      this.#fail(incoming, connection, error);
    }
  }

  #serve(message: RequestMessage, connection: CoapConnection, context: unknown): Answer {
    const now = monotonicNow();
    const input = this.#blockwise.receive(connection, message, now);
    if (input.type === "answer") return input.response;
    const { onRequest } = this.#options;
    const answer =
      onRequest === undefined ? emptyResponse(CODE.NotFound) : onRequest(input.request, connection, context);
    return answer instanceof Promise
      ? answer.then((response) => this.#cut(connection, message, response))
      : this.#cut(connection, message, answer);
  }

  /** The first block of a response, or all of it; it stays observable where it was. */
  #cut(connection: CoapConnection, message: RequestMessage, response: ObservableResponse): ObservableResponse {
    const maxBlockBytes = connection.isVerified ? undefined : this.#amplification.maxBlockBytes(message);
    const first = this.#blockwise.send(connection, message, response, monotonicNow(), "", maxBlockBytes);
    return response.observe === undefined ? first : { ...first, observe: response.observe };
  }

  #respond(incoming: IncomingRequest, connection: CoapConnection, response: ObservableResponse): void {
    const now = monotonicNow();
    if (!connection.isVerified && this.#amplification.needsProof(incoming, response)) {
      const remote = formatAddress(connection.remoteAddress);
      this.#endpoint.respond(incoming, this.#amplification.demand(remote, now), now);
      this.#pump();
      return;
    }
    const { observe } = response;
    if (observe === undefined || !incoming.isObserve || !isSuccessCode(response.code)) {
      this.#endpoint.respond(incoming, response, now);
    } else if (this.#endpoint.respondObserved(incoming, response, now)) {
      const stop = observe((notification) => {
        const message = this.#cut(connection, incoming, notification);
        this.#endpoint.notify(incoming, response.finish?.(message) ?? message, monotonicNow());
        this.#pump();
      });
      this.#observers.set(incoming, stop);
    }
    this.#pump();
  }

  #fail(incoming: IncomingRequest, connection: CoapConnection, error: unknown): void {
    this.#options.onFault?.(error, incoming, connection);
    this.#respond(incoming, connection, emptyResponse(CODE.InternalServerError));
  }

  #forgetIdle(connections: Map<string, CoapConnection>): boolean {
    for (const [key, connection] of connections) {
      if (!this.#endpoint.isIdle(connection.peer)) continue;
      connections.delete(key);
      this.closeConnection(connection);
      return true;
    }
    return false;
  }

  #setTimer(): void {
    const at = this.#endpoint.nextTimeout() ?? Infinity;
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(this.#onTimer, Math.max(0, at - monotonicNow()));
  }

  readonly #onTimer = (): void => {
    this.#timerAt = Infinity;
    const now = monotonicNow();
    this.#endpoint.handleTimeout(now);
    this.#blockwise.sweep(now);
    this.#pump();
  };
}

/** A plain socket that an endpoint speaks CoAP on. */
export interface PlainTransport {
  /** @throws CoapError COAP_LIMIT_REACHED. */
  connectTo(remote: SocketAddress): CoapConnection;
}

interface ObservingSend {
  readonly source: NotificationQueue;
  readonly established: PendingExchange[];
}

function blockwiseOptions(options: RequestOptions): Partial<BlockwiseTransferOptions> {
  const { blockBytes, responseBlockBytes, maxBodyBytes } = options;
  return {
    ...(blockBytes === undefined ? {} : { blockBytes }),
    ...(responseBlockBytes === undefined ? {} : { responseBlockBytes }),
    ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
  };
}

/** Random bytes by the pool: one call to the generator for many tokens. */
function pooledRandom(): (size: number) => Uint8Array {
  let pool: Uint8Array = new Uint8Array(0);
  let used = 0;
  return (size) => {
    if (used + size > pool.length) {
      pool = randomBytes(RANDOM_POOL_BYTES);
      used = 0;
    }
    used += size;
    return pool.slice(used - size, used);
  };
}

const DEFAULT_MAX_AMPLIFICATION = 3;
const DEFAULT_MAX_PLAIN_PEERS = 10_000;
const RANDOM_POOL_BYTES = 4096;
