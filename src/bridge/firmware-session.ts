import { randomBytes } from "node:crypto";
import {
  BlockwiseTransfer,
  CODE,
  CoapError,
  Endpoint,
  type EndpointOutput,
  emptyResponse,
  type Exchange,
  NO_PAYLOAD,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { encodeCoapFrame, SlipmuxDecoder, type SlipmuxCounters } from "./slipmux.js";
import type { Wire } from "./wire.js";

/**
 * CoAP with one microcontroller over an open wire, until either is given up. A session starts with fresh tokens and
 * messageIds and no memory of duplicates, so that a microcontroller that counts from the start again is understood.
 */
export class FirmwareSession {
  readonly #wire: Wire;
  readonly #options: FirmwareSessionOptions;
  readonly #decoder = new SlipmuxDecoder();
  readonly #endpoint: Endpoint;
  readonly #peer: ReturnType<Endpoint["openPeer"]>;
  readonly #pending = new Map<Exchange, Pending>();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(wire: Wire, options: FirmwareSessionOptions) {
    this.#wire = wire;
    this.#options = options;
    this.#endpoint = new Endpoint({
      random: randomBytes,
      parameters: { ackTimeoutMs: ackTimeoutMs(options.baud), ackRandomFactor: 1.2, maxRetransmit: 3 },
    });
    this.#peer = this.#endpoint.openPeer();
    wire.onBytes = (bytes) => this.#receive(bytes);
  }

  get counters(): SlipmuxCounters {
    return this.#decoder.counters;
  }

  /** Sends a request, and gives its whole response. @throws CoapError COAP_TIMEOUT, COAP_RESET, COAP_PEER_CLOSED and what a blockwise transfer throws. */
  async request(request: RequestMessage): Promise<ResponseMessage> {
    const transfer = new BlockwiseTransfer(request);
    for (;;) {
      const response = transfer.handleResponse(await this.#exchange(transfer.next(), undefined));
      if (response !== undefined) return response;
    }
  }

  get(path: readonly string[]): Promise<ResponseMessage> {
    return this.request(getOf(path));
  }

  /**
   * Observes a resource; the first response says by its Observe option whether there is an observation. `onResponse` is
   * called with each later one, before it is acknowledged. @throws as {@link request}.
   */
  async observe(
    path: readonly string[],
    onResponse: (response: ResponseMessage) => void,
    onEnd: () => void,
  ): Promise<ResponseMessage> {
    const request = getOf(path);
    const observing = { ...request, options: request.options.with(OPTION.Observe, 0) };
    return this.#exchange(observing, { onResponse, onEnd });
  }

  /** Fails what is under way with COAP_PEER_CLOSED; the wire stays open. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#wire.onBytes = () => undefined;
    this.#endpoint.closePeer(this.#peer, performance.now());
    this.#pump();
    clearTimeout(this.#timer);
  }

  #receive(bytes: Uint8Array): void {
    const { onText, onFrame } = this.#options;
    const { counters } = this.#decoder;
    const noiseBefore = counters.dropped + counters.foreign;
    const frames = this.#decoder.push(bytes);
    if (counters.dropped + counters.foreign > noiseBefore) this.#options.onNoise?.(counters);
    for (const frame of frames) {
      if (this.#isClosed) return;
      if (frame.type === "text") {
        onText?.(new TextDecoder().decode(frame.bytes));
        continue;
      }
      onFrame?.("received", frame.message);
      this.#endpoint.handleDatagram(this.#peer, frame.message, performance.now());
      this.#pump();
    }
  }

  #exchange(request: RequestMessage, observing: Pending["observing"]): Promise<ResponseMessage> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) {
        reject(new CoapError("COAP_PEER_CLOSED", "the session is over"));
        return;
      }
      const exchange = this.#endpoint.request(this.#peer, request, performance.now());
      this.#pending.set(exchange, { resolve, reject, observing });
      this.#pump();
    });
  }

  #pump(): void {
    for (let output = this.#endpoint.poll(); output !== undefined; output = this.#endpoint.poll())
      this.#carryOut(output);
    clearTimeout(this.#timer);
    const at = this.#endpoint.nextTimeout();
    if (at === undefined || this.#isClosed) return;
    this.#timer = setTimeout(
      () => {
        this.#endpoint.handleTimeout(performance.now());
        this.#pump();
      },
      Math.max(0, at - performance.now()),
    );
  }

  #carryOut(output: EndpointOutput): void {
    switch (output.type) {
      case "datagram":
        if (this.#isClosed) return;
        this.#options.onFrame?.("sent", output.bytes);
        this.#wire.write(encodeCoapFrame(output.bytes));
        return;
      case "request":
        // The gateway offers nothing to a microcontroller.
        this.#endpoint.respond(output.incoming, emptyResponse(CODE.NotFound), performance.now());
        return;
      case "response":
      case "notification": {
        const pending = this.#pending.get(output.exchange);
        const isOver = output.exchange.state !== "observing";
        if (isOver) this.#pending.delete(output.exchange);
        if (output.type === "response") pending?.resolve(output.response);
        else pending?.observing?.onResponse(output.response);
        if (isOver && output.type === "notification") pending?.observing?.onEnd();
        return;
      }
      case "failed": {
        const pending = this.#pending.get(output.exchange);
        this.#pending.delete(output.exchange);
        pending?.reject(output.error);
        pending?.observing?.onEnd();
        return;
      }
      case "observation-ended":
      // Of connections only, which a wire is none.
      case "close":
        return;
    }
  }
}

export interface FirmwareSessionOptions {
  /** Bits a second; a slow wire gets longer time-outs. */
  readonly baud: number;
  readonly onText?: (text: string) => void;
  /** Each CoAP message, for a monitor. */
  readonly onFrame?: (direction: "sent" | "received", message: Uint8Array) => void;
  /** Frames were dropped; of this session so far. */
  readonly onNoise?: (counters: SlipmuxCounters) => void;
}

/** A GET of a path. */
export function getOf(path: readonly string[]): RequestMessage {
  return { code: CODE.GET, options: Options.none.withAll(OPTION.UriPath, path), payload: NO_PAYLOAD };
}

interface Pending {
  resolve(response: ResponseMessage): void;
  reject(error: Error): void;
  readonly observing:
    | { readonly onResponse: (response: ResponseMessage) => void; readonly onEnd: () => void }
    | undefined;
}

/**
 * Differs from RFC 7252 §4.8: a wire has no congestion that 2 s would spare, and a frame that it lost is missed within
 * this. Twice the time of two full frames at the least, of 10 bits a byte.
 */
function ackTimeoutMs(baud: number): number {
  return Math.max(MIN_ACK_TIMEOUT_MS, (4 * FULL_FRAME_BYTES * 10_000) / baud);
}

const MIN_ACK_TIMEOUT_MS = 150;
const FULL_FRAME_BYTES = 300;
