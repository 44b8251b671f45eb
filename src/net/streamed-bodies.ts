import { randomBytes } from "node:crypto";
import {
  type BlockwiseServerOptions,
  CODE,
  CoapError,
  DEFAULT_BLOCKWISE_SERVER_OPTIONS,
  type DropCause,
  emptyResponse,
  isSuccessCode,
  OPTION,
  PiecewiseServer,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { BodyPipe } from "./body-pipe.js";
import { BodyReader, type StreamedBody } from "./body-reader.js";
import type { CoapConnection } from "./coap-connection.js";
import type { CoapEndpointOptions, ObservableResponse, StreamedHandler } from "./coap-endpoint-options.js";
import { monotonicNow } from "./udp-socket.js";

/** A server's bodies that are never whole in memory: requests that a handler reads as they come, responses that it makes so. */
export class StreamedBodies {
  readonly #options: CoapEndpointOptions;
  readonly #server: PiecewiseServer<CoapConnection, Upload, Download>;
  readonly #cutBytes: CutBytes;

  constructor(options: CoapEndpointOptions, cutBytes: CutBytes) {
    this.#options = options;
    this.#cutBytes = cutBytes;
    const blockwise: BlockwiseServerOptions = { ...DEFAULT_BLOCKWISE_SERVER_OPTIONS, ...options.blockwise };
    this.#server = new PiecewiseServer(blockwise);
  }

  /** Whether any message may belong to a streamed body. */
  get isActive(): boolean {
    return this.#options.onStream !== undefined || this.#server.size > 0;
  }

  get bufferedBytes(): number {
    return this.#server.bufferedBytes;
  }

  /** The answer to a message that belongs to a streamed body; undefined where it belongs to none. */
  serve(
    message: RequestMessage,
    connection: CoapConnection,
    context: unknown,
    now: number,
    principal: string,
  ): Promise<ObservableResponse> | ObservableResponse | undefined {
    if (this.#server.size > 0) {
      const pulled = this.#server.pull(connection, message, this.#cutBytes(connection, message), now, principal);
      if (pulled?.type === "answer") return pulled.response;
      if (pulled !== undefined) return pulled.download.pull(pulled.sizeBytes, pulled.send);
    }
    const handler = this.#options.onStream?.(message, connection, context);
    if (handler === undefined) return undefined;
    const isStream = connection.peer.stream !== undefined;
    const input = this.#server.receive(connection, message, now, () => new Upload(), isStream, principal);
    if (input.type === "answer") return input.response;
    const { upload, payload, isLast, isFirst, goOn } = input;
    if (isFirst) upload.begin(handler, message);
    return this.#take(upload, payload, isLast, goOn, message, connection, principal);
  }

  /** The message of a response whose body is streamed: all of it where it is short, else its first block. */
  async cut(
    response: ObservableResponse,
    body: StreamedBody,
    message: RequestMessage,
    connection: CoapConnection,
    principal: string,
  ): Promise<ObservableResponse> {
    const download = new Download(body);
    const { block2, block1 } = message.options;
    // What is not kept cannot be begun in the middle.
    if (block2 !== undefined && block2.number > 0) {
      download.drop("replaced");
      return emptyResponse(CODE.RequestEntityIncomplete);
    }
    const room = this.#cutBytes(connection, message, response);
    const sizeBytes = block2 === undefined || block2.isBert === true ? room : Math.min(block2.sizeBytes, room);
    const { piece, isLast } = await download.take(sizeBytes);
    const first: ResponseMessage = { code: response.code, options: response.options, payload: piece };
    if (!isLast) {
      const etag = randomBytes(ETAG_BYTES);
      return this.#server.begin(connection, message, first, download, etag, sizeBytes, monotonicNow(), principal);
    }
    return block1 === undefined
      ? first
      : { ...first, options: first.options.withBlock1({ ...block1, hasMore: false }) };
  }

  closePeer(connection: CoapConnection): void {
    this.#server.closePeer(connection);
  }

  nextTimeout(): number | undefined {
    return this.#server.nextTimeout();
  }

  sweep(now: number): void {
    this.#server.sweep(now);
  }

  async #take(
    upload: Upload,
    payload: Uint8Array,
    isLast: boolean,
    goOn: ResponseMessage | undefined,
    message: RequestMessage,
    connection: CoapConnection,
    principal: string,
  ): Promise<ObservableResponse> {
    const taken = upload.pipe.write(payload);
    if (isLast) upload.pipe.end();
    else if (!upload.isEarly) await taken;
    if (upload.isDropped) return emptyResponse(CODE.RequestEntityIncomplete);
    if (!isLast && upload.isEarly) {
      this.#server.end(connection, message, principal);
      upload.drop("replaced");
      throw new CoapError("COAP_INVALID_MESSAGE", "a streamed response was given before its request was read");
    }
    if (!isLast && goOn !== undefined) {
      const refused = upload.refused;
      if (refused === undefined) return goOn;
      this.#server.end(connection, message, principal);
    }
    const response = await upload.response;
    const { block1 } = message.options;
    if (response.body !== undefined) return this.cut(response, response.body, message, connection, principal);
    return block1 === undefined ? response : { ...response, options: response.options.withBlock1(block1) };
  }
}

/** How long a block for the peer may be. */
type CutBytes = (connection: CoapConnection, message: RequestMessage, response?: ResponseMessage) => number;

/** A request's body, from its blocks to the handler. */
class Upload {
  readonly pipe = new BodyPipe();
  response: Promise<ObservableResponse> = Promise.resolve(emptyResponse(CODE.InternalServerError));
  /** An error that the handler has answered with already; the rest of the body need not come. */
  refused: true | undefined;
  isDropped = false;
  /** Whether the handler gave a streamed response already, which cannot be sent before the request has ended. */
  isEarly = false;

  begin(handler: StreamedHandler, head: RequestMessage): void {
    const { code, options } = head;
    const request = { code, options: options.without(OPTION.Block1, OPTION.Size1), body: this.pipe };
    this.response = (async () => handler(request))();
    this.response.then(
      ({ code: answered, body }) => {
        if (body !== undefined) {
          // It may read the request's last piece.
          this.isEarly = true;
          this.pipe.letWriterGo();
          return;
        }
        if (!isSuccessCode(answered)) this.refused = true;
        this.pipe.abandon();
      },
      () => {
        this.refused = true;
        this.pipe.abandon();
      },
    );
  }

  drop(cause: DropCause): void {
    this.isDropped = true;
    const isSilence = cause === "expired";
    this.pipe.fail(
      new CoapError(isSilence ? "COAP_TIMEOUT" : "COAP_PEER_CLOSED", `the body was not sent to its end: ${cause}`),
    );
  }
}

/** A response's body, from the handler to blocks; one block is made at a time. */
class Download {
  readonly #reader: BodyReader;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(body: StreamedBody) {
    this.#reader = new BodyReader(body);
  }

  take(bytes: number): Promise<{ readonly piece: Uint8Array; readonly isLast: boolean }> {
    const taken = this.#busy.then(() => this.#reader.take(bytes));
    this.#busy = taken.catch(() => undefined);
    return taken;
  }

  async pull(
    sizeBytes: number,
    send: (payload: Uint8Array, isLast: boolean) => ResponseMessage,
  ): Promise<ResponseMessage> {
    const { piece, isLast } = await this.take(sizeBytes);
    return send(piece, isLast);
  }

  drop(_cause: DropCause): void {
    // A source that does not end well has nobody left to be told.
    this.#reader.cancel().catch(() => undefined);
  }
}

const ETAG_BYTES = 8;
