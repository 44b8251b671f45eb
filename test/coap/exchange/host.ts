import {
  CODE,
  decodeMessage,
  Endpoint,
  type EndpointOptions,
  type EndpointOutput,
  encodeMessage,
  type IncomingRequest,
  type Message,
  MESSAGE_TYPE,
  OPTION,
  Options,
  type Peer,
  type ResponseMessage,
} from "#coap/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import { type LinkPeer } from "#testing/virtual-link.js";

/** An endpoint with one peer, whose outputs are kept by kind. */
export class Host implements LinkPeer {
  readonly endpoint: Endpoint;
  readonly peer: Peer;
  readonly requests: IncomingRequest[] = [];
  readonly responses: string[] = [];
  readonly notifications: string[] = [];
  readonly failures: string[] = [];
  readonly ended: string[] = [];
  readonly closed: string[] = [];
  answer: ((incoming: IncomingRequest, now: number) => void) | undefined;
  readonly #datagrams: Uint8Array[] = [];

  constructor(seed: number, options: Partial<EndpointOptions> = {}) {
    const random = new SeededRandom(seed);
    this.endpoint = new Endpoint({ random: (size) => random.bytes(size), ...options });
    this.peer = this.endpoint.openPeer();
  }

  handleDatagram(datagram: Uint8Array, now: number): void {
    this.endpoint.handleDatagram(this.peer, datagram, now);
    this.drain(now);
  }

  handleTimeout(now: number): void {
    this.endpoint.handleTimeout(now);
    this.drain(now);
  }

  nextTimeout(): number | undefined {
    return this.endpoint.nextTimeout();
  }

  pollDatagram(now: number): Uint8Array | undefined {
    this.drain(now);
    return this.#datagrams.shift();
  }

  /** The message that is sent next. */
  sent(now = 0): Message | undefined {
    const datagram = this.pollDatagram(now);
    return datagram === undefined ? undefined : decodeMessage(datagram);
  }

  receive(message: Partial<Message>, now = 0): void {
    this.handleDatagram(
      encodeMessage({
        type: MESSAGE_TYPE.Confirmable,
        code: CODE.GET,
        messageId: 1,
        token: new Uint8Array(0),
        options: Options.none,
        payload: new Uint8Array(0),
        ...message,
      }),
      now,
    );
  }

  drain(now: number): void {
    for (let output = this.endpoint.poll(); output !== undefined; output = this.endpoint.poll())
      this.#take(output, now);
  }

  #take(output: EndpointOutput, now: number): void {
    switch (output.type) {
      case "datagram":
        this.#datagrams.push(output.bytes);
        return;
      case "request":
        this.requests.push(output.incoming);
        this.answer?.(output.incoming, now);
        return;
      case "response":
        this.responses.push(text(output.response.payload));
        return;
      case "notification":
        this.notifications.push(text(output.response.payload));
        return;
      case "failed":
        this.failures.push(output.error.code);
        return;
      case "close":
        this.closed.push(output.cause.type);
        return;
      case "observation-ended":
        this.ended.push(output.cause);
        return;
    }
  }
}

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
export const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);
export const content = (value: string, options: Options = Options.none): ResponseMessage => ({
  code: CODE.Content,
  options,
  payload: bytes(value),
});
export const path = (...segments: string[]): Options => Options.none.withAll(OPTION.UriPath, segments);
