import {
  CODE,
  DEFAULT_BLOCKWISE_SERVER_OPTIONS,
  DEFAULT_Q_BLOCK_PARAMETERS,
  type Endpoint,
  emptyResponse,
  type IncomingRequest,
  OPTION,
  type QBlockParameters,
  QBlockServer,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import type { StreamedBody } from "./body-reader.js";
import type { CoapConnection } from "./coap-connection.js";
import type { CoapEndpointOptions, ObservableResponse } from "./coap-endpoint-options.js";
import { monotonicNow } from "./udp-socket.js";

/** Requests of peers that come by Q-Block1 or ask for Q-Block2 (RFC 9177), within the bounds of the `blockwise` options. */
export class QBlockService {
  readonly #endpoint: Endpoint;
  readonly #options: CoapEndpointOptions;
  readonly #server: QBlockServer<CoapConnection, IncomingRequest>;
  readonly #maxBodyBytes: number;
  readonly #pump: () => void;

  constructor(
    endpoint: Endpoint,
    options: CoapEndpointOptions,
    parameters: Partial<QBlockParameters>,
    pump: () => void,
  ) {
    const bounds = { ...DEFAULT_BLOCKWISE_SERVER_OPTIONS, ...options.blockwise };
    this.#endpoint = endpoint;
    this.#options = options;
    this.#pump = pump;
    this.#maxBodyBytes = bounds.maxBodyBytes;
    this.#server = new QBlockServer({
      ...bounds,
      parameters: { ...DEFAULT_Q_BLOCK_PARAMETERS, ...parameters },
      randomFraction: Math.random,
    });
  }

  static concerns({ options }: RequestMessage): boolean {
    return options.has(OPTION.QBlock1) || options.has(OPTION.QBlock2);
  }

  get bufferedBytes(): number {
    return this.#server.bufferedBytes;
  }

  receive(incoming: IncomingRequest, connection: CoapConnection): void {
    const whole = this.#server.receive(connection, incoming, incoming, monotonicNow());
    if (whole !== undefined) void this.#answer(incoming, connection, whole);
    this.#flush();
  }

  closePeer(connection: CoapConnection): void {
    this.#server.closePeer(connection);
  }

  nextTimeout(): number | undefined {
    return this.#server.nextTimeout();
  }

  handleTimeout(now: number): void {
    this.#server.handleTimeout(now);
    this.#flush();
  }

  async #answer(incoming: IncomingRequest, connection: CoapConnection, whole: RequestMessage): Promise<void> {
    const { onRequest, onFault } = this.#options;
    let response: ResponseMessage;
    try {
      const { code, payload } = whole;
      const options = whole.options.without(OPTION.QBlock1, OPTION.QBlock2, OPTION.Observe);
      const given: ObservableResponse =
        onRequest === undefined
          ? emptyResponse(CODE.NotFound)
          : await onRequest({ code, options, payload }, connection, undefined);
      response = given.body === undefined ? given : await this.#collected(given, given.body);
    } catch (error) {
      onFault?.(error, incoming, connection);
      response = emptyResponse(CODE.InternalServerError);
    }
    if (connection.isClosed) return;
    this.#server.send(connection, incoming, whole, response, monotonicNow());
    this.#flush();
    this.#pump();
  }

  /** Blocks that are asked for again need a body that is whole. */
  async #collected(response: ResponseMessage, body: StreamedBody): Promise<ResponseMessage> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const piece of body) {
      length += piece.length;
      if (length > this.#maxBodyBytes) return emptyResponse(CODE.ServiceUnavailable);
      pieces.push(piece);
    }
    return { code: response.code, options: response.options, payload: Buffer.concat(pieces) };
  }

  #flush(): void {
    for (let output = this.#server.poll(); output !== undefined; output = this.#server.poll())
      this.#endpoint.respondMore(output.to, output.response, monotonicNow());
  }
}
