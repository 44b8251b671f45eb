import { CoapError } from "../errors.js";
import { CODE, isSuccessCode } from "../wire/code.js";
import { encodeMessage, type Message, MESSAGE_TYPE } from "../wire/message.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import type { EndpointCore } from "./core.js";
import { type RequestMessage, NO_PAYLOAD, type ResponseMessage } from "./messages.js";
import { isFresher } from "./observe-freshness.js";
import { checkOptions } from "./option-check.js";
import { type Peer, tokenKey } from "./peer.js";
import { type Timed, TimerHeap } from "./timer-heap.js";
import type { TransmissionOwner, Transmitter } from "./transmitter.js";

/**
 * The client half of an endpoint: requests of ours and the observations that they establish.
 *
 * | from | on | to |
 * |---|---|---|
 * | queued | a place within NSTART | awaiting |
 * | awaiting | empty Acknowledgement | awaiting, no more retransmissions |
 * | awaiting | response | ended, or observing when it carries Observe |
 * | awaiting | Reset, time-out, unknown critical option | ended (failed) |
 * | observing | newer notification | observing |
 * | observing | error response, or one without Observe | ended |
 * | observing | cancel | cancelling: GET with Observe 1 and the same token (RFC 7641 §3.6) |
 * | cancelling | anything final | ended, silently |
 */
export class Requester {
  readonly #core: EndpointCore;
  readonly #transmitter: Transmitter;
  readonly #timers = new TimerHeap<Exchange>();

  constructor(core: EndpointCore, transmitter: Transmitter) {
    this.#core = core;
    this.#transmitter = transmitter;
  }

  request(peer: Peer, request: RequestMessage, now: number): Exchange {
    const exchange = new Exchange(this, peer, request, this.#core.random(TOKEN_BYTES));
    if (peer.isClosed) {
      this.#fail(exchange, new CoapError("COAP_PEER_CLOSED", "the peer is closed"));
    } else if (peer.outstanding < this.#core.parameters.nstart) {
      this.#start(exchange, now);
    } else {
      peer.queue ??= [];
      if (peer.queue.length >= this.#core.limits.maxQueuedRequestsPerPeer) {
        this.#fail(
          exchange,
          new CoapError("COAP_LIMIT_REACHED", `${peer.queue.length} requests wait for this peer already`),
        );
      } else {
        peer.queue.push(exchange);
      }
    }
    return exchange;
  }

  /** Ends an exchange without any output; an observation is cancelled at the peer too. */
  cancel(exchange: Exchange, now: number): void {
    switch (exchange.state) {
      case "queued":
        exchange.peer.queue = exchange.peer.queue?.filter((queued) => queued !== exchange);
        exchange.state = "ended";
        return;
      case "awaiting":
        this.#end(exchange, now);
        return;
      case "observing": {
        const { peer, request } = exchange;
        const options = request.options.with(OPTION.Observe, 1);
        exchange.state = "cancelling";
        this.#transmit(exchange, peer, { ...request, options, isConfirmable: true }, now);
        return;
      }
      case "cancelling":
      case "ended":
        return;
    }
  }

  /** A response by token. Returns what the peer is to be told: that it was received, or that it was not wanted. */
  handleResponse(peer: Peer, message: Message, now: number): "accepted" | "rejected" {
    const exchange = peer.exchanges?.get(tokenKey(message.token));
    if (exchange === undefined) return "rejected";
    if (message.type === MESSAGE_TYPE.Acknowledgement && message.messageId !== exchange.messageId) return "rejected";
    this.#transmitter.finish(peer, exchange.messageId, exchange);
    const checked = checkOptions(message.options, this.#core.registry);
    if (!checked.ok) {
      const error = new CoapError("COAP_BAD_OPTION", `the response has an unknown critical option ${checked.number}`);
      if (exchange.state !== "cancelling") this.#core.emit({ type: "failed", exchange, error });
      this.#end(exchange, now);
      return "rejected";
    }
    const response: ResponseMessage = { code: message.code, options: checked.options, payload: message.payload };
    switch (exchange.state) {
      case "awaiting":
        this.#handleFirst(exchange, response, now);
        return "accepted";
      case "observing":
        this.#handleNotification(exchange, response, now);
        return "accepted";
      case "cancelling":
        // A notification that crossed the cancellation is taken, so that no Reset is needed; the answer ends it.
        if (response.options.observe === undefined) this.#end(exchange, now);
        return "accepted";
      case "queued":
      case "ended":
        return "rejected";
    }
  }

  nextTimeout(): number | undefined {
    return this.#timers.next();
  }

  handleTimeout(now: number): void {
    for (let due = this.#timers.take(now); due !== undefined; due = this.#timers.take(now)) {
      this.handleFailure(due, new CoapError("COAP_TIMEOUT", "no response came"), now);
    }
  }

  closePeer(peer: Peer, now: number): void {
    const error = new CoapError("COAP_PEER_CLOSED", "the peer was closed before a response came");
    const queued = peer.queue ?? [];
    peer.queue = undefined;
    for (const exchange of [...(peer.exchanges?.values() ?? []), ...queued]) this.handleFailure(exchange, error, now);
  }

  handleFailure(exchange: Exchange, error: CoapError, now: number): void {
    if (exchange.state === "ended") return;
    const isSilent = exchange.state === "cancelling";
    this.#end(exchange, now);
    if (!isSilent) this.#core.emit({ type: "failed", exchange, error });
  }

  /** An empty Acknowledgement: the response comes by itself, within MAX_TRANSMIT_WAIT plus the latency of the network. */
  awaitSeparateResponse(exchange: Exchange, now: number): void {
    if (exchange.state === "awaiting" || exchange.state === "cancelling") {
      this.#timers.schedule(exchange, now + this.#core.times.maxTransmitWaitMs);
    }
  }

  #start(exchange: Exchange, now: number): void {
    const { peer } = exchange;
    peer.outstanding++;
    exchange.isOutstanding = true;
    exchange.state = "awaiting";
    peer.exchanges ??= new Map();
    peer.exchanges.set(exchange.key, exchange);
    this.#transmit(exchange, peer, exchange.request, now);
  }

  #transmit(exchange: Exchange, peer: Peer, request: RequestMessage, now: number): void {
    const isConfirmable = request.isConfirmable ?? true;
    exchange.messageId = peer.takeMessageId();
    const bytes = encodeMessage({
      type: isConfirmable ? MESSAGE_TYPE.Confirmable : MESSAGE_TYPE.NonConfirmable,
      code: request.code,
      messageId: exchange.messageId,
      token: exchange.token,
      options: request.options,
      payload: request.payload,
    });
    if (isConfirmable) {
      this.#transmitter.send(peer, exchange.messageId, bytes, exchange, now);
    } else {
      this.#core.emit({ type: "datagram", peer, bytes });
      this.#timers.schedule(exchange, now + this.#core.times.nonLifetimeMs);
    }
  }

  #handleFirst(exchange: Exchange, response: ResponseMessage, now: number): void {
    const sequence = response.options.observe;
    if (exchange.request.options.observe === 0 && sequence !== undefined && isSuccessCode(response.code)) {
      exchange.state = "observing";
      exchange.timerAt = undefined;
      exchange.newest = { sequence, at: now };
      this.#release(exchange, now);
    } else {
      this.#end(exchange, now);
    }
    this.#core.emit({ type: "response", exchange, response });
  }

  #handleNotification(exchange: Exchange, response: ResponseMessage, now: number): void {
    const sequence = response.options.observe;
    if (sequence === undefined || !isSuccessCode(response.code)) {
      this.#end(exchange, now);
    } else {
      if (exchange.newest !== undefined && !isFresher(exchange.newest, { sequence, at: now })) return;
      exchange.newest = { sequence, at: now };
    }
    this.#core.emit({ type: "notification", exchange, response });
  }

  #end(exchange: Exchange, now: number): void {
    exchange.state = "ended";
    exchange.timerAt = undefined;
    const { peer } = exchange;
    this.#transmitter.finish(peer, exchange.messageId, exchange);
    if (peer.exchanges?.get(exchange.key) === exchange) peer.exchanges.delete(exchange.key);
    if (peer.exchanges?.size === 0) peer.exchanges = undefined;
    this.#release(exchange, now);
  }

  /** Gives the exchange's place within NSTART to the next in the queue. */
  #release(exchange: Exchange, now: number): void {
    if (!exchange.isOutstanding) return;
    const { peer } = exchange;
    exchange.isOutstanding = false;
    peer.outstanding--;
    const next = peer.queue?.shift();
    if (peer.queue?.length === 0) peer.queue = undefined;
    if (next !== undefined) this.#start(next, now);
  }

  #fail(exchange: Exchange, error: CoapError): void {
    exchange.state = "ended";
    this.#core.emit({ type: "failed", exchange, error });
  }
}

/** One request of ours and what comes of it. */
export class Exchange implements TransmissionOwner, Timed {
  readonly peer: Peer;
  readonly request: RequestMessage;
  readonly token: Uint8Array;
  readonly key: string;
  state: "queued" | "awaiting" | "observing" | "cancelling" | "ended" = "queued";
  messageId = -1;
  isOutstanding = false;
  timerAt: number | undefined;
  /** The newest notification's Observe value and time of arrival. */
  newest: { readonly sequence: number; readonly at: number } | undefined;
  readonly #requester: Requester;

  constructor(requester: Requester, peer: Peer, request: RequestMessage, token: Uint8Array) {
    this.#requester = requester;
    this.peer = peer;
    this.request = request;
    this.token = token;
    this.key = tokenKey(token);
  }

  onAcknowledgement(now: number): void {
    this.#requester.awaitSeparateResponse(this, now);
  }

  onReset(now: number): void {
    this.#requester.handleFailure(this, new CoapError("COAP_RESET", "the peer rejected the request by Reset"), now);
  }

  onTransmissionTimeout(now: number): void {
    this.#requester.handleFailure(this, new CoapError("COAP_TIMEOUT", "the peer did not acknowledge the request"), now);
  }
}

/** A GET with no payload, the commonest request. */
export function getRequest(options: Options = Options.none): RequestMessage {
  return { code: CODE.GET, options, payload: NO_PAYLOAD };
}

const TOKEN_BYTES = 8;
