import { randomBytes } from "node:crypto";
import {
  BlockwiseTransfer,
  CODE,
  CoapError,
  type Endpoint,
  encodeUint,
  type Exchange,
  NO_PAYLOAD,
  OPTION,
  type RequestMessage,
  type ResponseMessage,
  StreamedTransfer,
} from "#coap/index.js";
import { BodyReader, type StreamedBody } from "./body-reader.js";
import {
  type CoapConnection,
  NotificationQueue,
  Observation,
  type PendingExchange,
  type RequestOptions,
  type StreamedResponse,
} from "./coap-connection.js";
import type { CoapEndpointOptions, SendMessage } from "./coap-endpoint-options.js";
import { PutOff } from "./put-off.js";
import type { QBlockRequests } from "./q-block-requests.js";
import { transferOptions } from "./transfer-options.js";
import { monotonicNow } from "./udp-socket.js";

/** The requests and observations of ours that are under way: from a message's exchange to a whole response. */
export class OutgoingRequests {
  readonly #endpoint: Endpoint;
  readonly #onSend: CoapEndpointOptions["onSend"];
  readonly #qBlock: QBlockRequests | undefined;
  readonly #pump: () => void;
  readonly #pending = new Map<Exchange, PendingExchange>();
  #requestTag = randomBytes(4).readUInt32BE();

  /** `pump` carries out what the endpoint asks for. */
  constructor(
    endpoint: Endpoint,
    onSend: CoapEndpointOptions["onSend"],
    qBlock: QBlockRequests | undefined,
    pump: () => void,
  ) {
    this.#qBlock = qBlock;
    this.#endpoint = endpoint;
    this.#onSend = onSend;
    this.#pump = pump;
  }

  async request(
    connection: CoapConnection,
    request: RequestMessage,
    options: RequestOptions,
  ): Promise<ResponseMessage> {
    if (options.isBlockwise === false) return this.#send(connection, request, options, undefined);
    // RFC 9175 §3.5: bodies of one operation that are under way at once must not be taken for one another.
    const requestTag = this.#nextRequestTag();
    const isRobust = options.robust === true && connection.peer.stream === undefined && connection.hasQBlock !== false;
    if (isRobust && this.#qBlock !== undefined) {
      const response = await this.#robust(this.#qBlock, connection, request, requestTag, options);
      if (response !== undefined) return response;
    }
    const transfer = new BlockwiseTransfer(request, { ...transferOptions(connection, request, options), requestTag });
    for (;;) {
      const response = transfer.handleResponse(await this.#send(connection, transfer.next(), options, undefined));
      if (response !== undefined) return response;
    }
  }

  async stream(
    connection: CoapConnection,
    request: RequestMessage,
    body: StreamedBody | undefined,
    options: RequestOptions,
  ): Promise<StreamedResponse> {
    const head = { ...request, payload: NO_PAYLOAD };
    const { mayBeBert = false, blockBytes = MAX_BLOCK_BYTES } = transferOptions(connection, head, options);
    const takesNoBlocks = connection.peer.stream?.capabilities.hasBlocks === false;
    const requestTag = this.#nextRequestTag();
    const { responseBlockBytes } = options;
    const transfer = new StreamedTransfer(request, { blockBytes, mayBeBert, responseBlockBytes, requestTag });
    const reader = new BodyReader(body ?? NO_BODY);
    try {
      for (;;) {
        const { piece, isLast } = await reader.take(transfer.wantedBytes);
        if (!isLast && takesNoBlocks) throw new CoapError("COAP_BODY_TOO_LARGE", "the peer takes no blocks");
        const response = await this.#send(connection, transfer.next(piece, isLast), options, undefined);
        const step = transfer.handleResponse(response);
        if (step.type === "again") reader.giveBack(piece);
        if (step.type !== "block") continue;
        return {
          code: step.response.code,
          options: step.response.options,
          body: this.#rest(connection, transfer, step.response.payload, step.isLast, options),
          isWhole: step.isLast,
        };
      }
    } finally {
      await reader.cancel();
    }
  }

  async *#rest(
    connection: CoapConnection,
    transfer: StreamedTransfer,
    first: Uint8Array,
    isWhole: boolean,
    options: RequestOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    if (first.length > 0) yield first;
    for (let isLast = isWhole; !isLast;) {
      const step = transfer.handleResponse(await this.#send(connection, transfer.next(), options, undefined));
      if (step.type !== "block") return;
      yield step.response.payload;
      ({ isLast } = step);
    }
  }

  async observe(connection: CoapConnection, request: RequestMessage, options: RequestOptions): Promise<Observation> {
    const { blockBytes = MAX_BLOCK_BYTES } = transferOptions(connection, request, options);
    // What renews an observation is one message (RFC 7641 §3.3.1), and so what begins it is.
    if (options.isBlockwise !== false && request.payload.length > blockBytes)
      throw new CoapError("COAP_BODY_TOO_LARGE", `what is observed is asked for by ${blockBytes} bytes at most`);
    const notifications = new NotificationQueue();
    const established: PendingExchange[] = [];
    const complete = async (first: ResponseMessage): Promise<ResponseMessage> => {
      if (options.isBlockwise === false) return first;
      const plain = { ...request, options: request.options.without(OPTION.Observe) };
      const transfer = new BlockwiseTransfer(plain, transferOptions(connection, plain, options));
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
    const cancel = (): void => {
      const pending = established.at(-1);
      if (pending !== undefined) {
        this.#pending.delete(pending.exchange);
        this.#endpoint.cancel(pending.exchange, monotonicNow());
        this.#pump();
      }
      source.end();
    };
    let first: ResponseMessage;
    try {
      first = await complete(await this.#send(connection, asking, options, { source, established }));
    } catch (error) {
      // The peer has begun to notify, perhaps, of what is not to be had whole.
      cancel();
      throw error;
    }
    void (async () => {
      try {
        for (let next = await source.next(); next.done !== true; next = await source.next())
          notifications.push(await complete(next.value));
        notifications.end();
      } catch (error) {
        cancel();
        notifications.end(error instanceof Error ? error : new Error(String(error)));
      }
    })();
    if (established.at(-1)?.exchange.state !== "observing") source.end();
    return new Observation(first, notifications, cancel);
  }

  /** Once more with the Echo that it is answered with (RFC 9175 §2.3). */
  async #robust(
    qBlock: QBlockRequests,
    connection: CoapConnection,
    request: RequestMessage,
    requestTag: Uint8Array,
    options: RequestOptions,
  ): Promise<ResponseMessage | undefined> {
    const first = await qBlock.request(connection, request, requestTag, options);
    if (first === undefined) return undefined;
    const echo = first.code === CODE.Unauthorized ? first.options.get(OPTION.Echo) : undefined;
    if (echo === undefined || request.options.has(OPTION.Echo)) {
      connection.hasQBlock = true;
      return first;
    }
    const echoing = { ...request, options: request.options.with(OPTION.Echo, echo) };
    return qBlock.request(connection, echoing, requestTag, options);
  }

  nextTimeout(): number | undefined {
    return this.#qBlock?.nextTimeout();
  }

  handleTimeout(now: number): void {
    this.#qBlock?.handleTimeout(now);
  }

  async ping(connection: CoapConnection, options: RequestOptions): Promise<void> {
    await this.#outcome(() => this.#endpoint.ping(connection.peer, monotonicNow()), options, undefined, undefined);
  }

  handleResponse(exchange: Exchange, response: ResponseMessage): void {
    if (exchange.request.hasManyResponses === true) return this.#qBlock?.handleResponse(exchange, response);
    const pending = this.#pending.get(exchange);
    if (exchange.state !== "observing") this.#pending.delete(exchange);
    pending?.resolve(response);
  }

  handleNotification(exchange: Exchange, response: ResponseMessage): void {
    const { notifications, isAccepted } = this.#pending.get(exchange) ?? {};
    if (isAccepted?.(response) !== false) notifications?.push(response);
    if (exchange.state === "observing") return;
    this.#pending.delete(exchange);
    notifications?.end();
  }

  handleFailure(exchange: Exchange, error: CoapError): void {
    if (exchange.request.hasManyResponses === true) return this.#qBlock?.handleFailure(exchange, error);
    const pending = this.#pending.get(exchange);
    this.#pending.delete(exchange);
    // Before its first response an exchange's promise fails; after it, the observation's iteration does.
    pending?.reject(error);
    pending?.notifications?.end(error);
  }

  #nextRequestTag(): Uint8Array {
    return encodeUint((this.#requestTag = (this.#requestTag + 1) % 2 ** 32));
  }

  /** One message of ours, by way of `onSend`; once more with the Echo that it is answered with (RFC 9175 §2.3). */
  async #send(
    connection: CoapConnection,
    message: RequestMessage,
    options: RequestOptions,
    observing: ObservingSend | undefined,
  ): Promise<ResponseMessage> {
    const heeds = options.insists !== true && options.isBlockwise !== false;
    const answer = heeds ? connection.putOff?.answerTo(message, monotonicNow()) : undefined;
    if (answer !== undefined) return answer;
    const send: SendMessage = (outgoing, isAccepted) =>
      this.#exchange(connection, outgoing, options, observing, isAccepted);
    const onSend = this.#onSend;
    const sendBy = (outgoing: RequestMessage): Promise<ResponseMessage> =>
      onSend === undefined ? send(outgoing) : onSend(outgoing, connection, send, options.context);
    const response = await sendBy(message);
    if (heeds && response.code === CODE.TooManyRequests)
      (connection.putOff ??= new PutOff()).learn(message, response, monotonicNow());
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
}

async function* empty(): AsyncGenerator<Uint8Array, void, undefined> {
  yield* [];
}

const NO_BODY: StreamedBody = { [Symbol.asyncIterator]: empty };
const MAX_BLOCK_BYTES = 1024;

interface ObservingSend {
  readonly source: NotificationQueue;
  readonly established: PendingExchange[];
}
