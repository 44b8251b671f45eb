import { CoapError, formatCode, isSuccessCode, type Options } from "#coap/index.js";
import type { StreamedResponse } from "#net/index.js";

/** A response whose body is read as it comes: its code and options are there before that. */
export class CoapStreamedResponse {
  /** As its byte, such as `CODE.Content`. */
  readonly code: number;
  readonly options: Options;
  /**
   * To be read once, by `for await` or as any ReadableStream. A block is asked for when the one before was read; a block that
   * does not come, or belongs to another state of the resource, fails the reading with a CoapError.
   */
  readonly body: ReadableStream<Uint8Array>;

  constructor(message: StreamedResponse) {
    this.code = message.code;
    this.options = message.options;
    const source = message.body[Symbol.asyncIterator]();
    this.body = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const next = await source.next();
          if (next.done === true) controller.close();
          else controller.enqueue(next.value);
        },
        cancel: async () => void (await source.return?.()),
      },
      { highWaterMark: 0 },
    );
  }

  /** Whether it tells of success: 2.xx. */
  get ok(): boolean {
    return isSuccessCode(this.code);
  }

  /** The code as "2.05". */
  get status(): string {
    return formatCode(this.code);
  }

  /** The whole body. @throws CoapError COAP_BODY_TOO_LARGE past `maxBytes`; what reading throws. */
  async bytes(maxBytes: number = DEFAULT_MAX_BODY_BYTES): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const piece of this.body) {
      length += piece.length;
      if (length > maxBytes)
        throw new CoapError("COAP_BODY_TOO_LARGE", `the response body is longer than ${maxBytes} bytes`);
      pieces.push(piece);
    }
    const body = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      body.set(piece, at);
      at += piece.length;
    }
    return body;
  }
}

const DEFAULT_MAX_BODY_BYTES = 1024 * 1024;
