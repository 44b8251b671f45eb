import type { StreamDecoder, StreamMessage } from "#coap/index.js";
import type { CoapConnection } from "./coap-connection.js";
import type { CoapStream } from "./coap-stream.js";

/**
 * What the peer of a TCP or TLS connection sends: message by message, while few requests of its wait for their answers. What
 * else it has sent waits as bytes here, or in the network.
 */
export class StreamInput {
  readonly #connection: CoapConnection;
  readonly #stream: CoapStream;
  readonly #decoder: StreamDecoder;
  readonly #surroundings: StreamInputSurroundings;
  #isHandling = false;

  constructor(
    connection: CoapConnection,
    stream: CoapStream,
    decoder: StreamDecoder,
    surroundings: StreamInputSurroundings,
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.#decoder = decoder;
    this.#surroundings = surroundings;
  }

  push(bytes: Uint8Array): void {
    this.#decoder.add(bytes);
    this.goOn();
  }

  /** A request was answered, or bytes have come. A handler that answers at once calls this from within. */
  goOn(): void {
    if (this.#isHandling) return;
    this.#isHandling = true;
    try {
      while (this.#hasRoom) {
        const message = this.#decoder.next();
        if (message === undefined) break;
        this.#surroundings.handle(message);
      }
    } catch (error) {
      this.#surroundings.abort(error instanceof Error ? error.message : "malformed");
    }
    this.#isHandling = false;
    this.#stream.keeps(this.#decoder.bufferedBytes);
    this.#stream.setReading(this.#hasRoom);
  }

  get #hasRoom(): boolean {
    return this.#connection.unanswered < MAX_UNANSWERED_ON_STREAM;
  }
}

export interface StreamInputSurroundings {
  /** Carries out all that it leads to at once. */
  handle(message: StreamMessage): void;
  /** Nothing after this can be read. */
  abort(reason: string): void;
}

/** Requests of one connection under way at once. */
const MAX_UNANSWERED_ON_STREAM = 64;
