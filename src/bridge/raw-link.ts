import { decodeMessage, encodeMessage, type Message, MESSAGE_TYPE, NO_PAYLOAD, Options } from "#coap/index.js";
import { encodeCoapFrame, SlipmuxDecoder } from "./slipmux.js";
import type { Wire } from "./wire.js";

/** Single messages and raw bytes on a wire, for judging a firmware: nothing is sent again, nothing put together. */
export class RawLink {
  readonly #wire: Wire;
  readonly #decoder = new SlipmuxDecoder();
  readonly #received: Message[] = [];
  #wake: () => void = () => undefined;
  #messageId = Math.floor(performance.now()) & 0xffff;
  #tokens = 0;

  constructor(wire: Wire) {
    this.#wire = wire;
    wire.onBytes = (bytes) => {
      for (const frame of this.#decoder.push(bytes)) if (frame.type === "coap") this.#take(frame.message);
    };
  }

  /** A Confirmable request with a messageId and token of its own. */
  next(code: number, options: Options = Options.none, payload: Uint8Array = NO_PAYLOAD): Message {
    this.#messageId = (this.#messageId + 1) & 0xffff;
    this.#tokens++;
    const token = Uint8Array.of(0xc0, 0xdb, this.#tokens >> 8, this.#tokens & 0xff);
    return { type: MESSAGE_TYPE.Confirmable, code, messageId: this.#messageId, token, options, payload };
  }

  sendBytes(bytes: Uint8Array): void {
    this.#wire.write(bytes);
  }

  send(message: Message): void {
    this.#wire.write(encodeCoapFrame(encodeMessage(message)));
  }

  /** The next message that is wanted; undefined when none comes in time. Others are passed over. */
  async receive(isWanted: (message: Message) => boolean, withinMs: number = ANSWER_MS): Promise<Message | undefined> {
    const end = performance.now() + withinMs;
    for (;;) {
      const index = this.#received.findIndex((message) => isWanted(message));
      const [found] = index < 0 ? [] : this.#received.splice(0, index + 1).slice(-1);
      const leftMs = end - performance.now();
      if (found !== undefined || leftMs <= 0) return found;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** The response to a request, by its token and, where it is piggybacked, its messageId. Asks up to three times. */
  async ask(request: Message): Promise<Message | undefined> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      this.send(request);
      const response = await this.receive((message) => isResponseTo(request, message));
      if (response !== undefined) return response;
    }
    return undefined;
  }

  /** Forgets what was received. */
  clear(): void {
    this.#received.length = 0;
  }

  #take(bytes: Uint8Array): void {
    try {
      const message = decodeMessage(bytes);
      this.#received.push(message);
      if (this.#received.length > MAX_RECEIVED) this.#received.shift();
      // A notification goes on being sent until it is acknowledged.
      if (message.type === MESSAGE_TYPE.Confirmable && message.code >> 5 === 2)
        this.send({
          ...message,
          type: MESSAGE_TYPE.Acknowledgement,
          code: 0,
          token: NO_PAYLOAD,
          options: Options.none,
          payload: NO_PAYLOAD,
        });
    } catch {
      // What is no CoAP message is no answer.
    }
    this.#wake();
  }
}

export function isResponseTo(request: Message, message: Message): boolean {
  const isPiggybacked = message.type === MESSAGE_TYPE.Acknowledgement;
  if (isPiggybacked && message.messageId !== request.messageId) return false;
  return message.code >> 5 >= 2 && Buffer.compare(message.token, request.token) === 0;
}

/** Long enough for a slow wire and a busy main loop. */
const ANSWER_MS = 700;
const ATTEMPTS = 3;
const MAX_RECEIVED = 100;
