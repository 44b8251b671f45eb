import { CoapError } from "../errors.js";
import { wantsNoResponse } from "../no-response.js";
import { SIGNAL } from "../stream/signals.js";
import { CODE, isRequestCode, isSuccessCode } from "../wire/code.js";
import { encodeMessage, type Message, MESSAGE_TYPE } from "../wire/message.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import { type EndpointCore, randomFraction } from "./core.js";
import { Exchange } from "./exchange.js";
import type { InteractionQueue } from "./interaction-queue.js";
import { type RequestMessage, NO_PAYLOAD, type ResponseMessage } from "./messages.js";
import { isFresher } from "./observe-freshness.js";
import { checkOptions } from "./option-check.js";
import { type Peer, tokenKey } from "./peer.js";
import { TimerHeap } from "./timer-heap.js";
import { shortestToken } from "./token-source.js";
import type { Transmitter } from "./transmitter.js";

/**
 * The client half of an endpoint: requests of ours and the observations that they establish.
 *
 * | from | on | to |
 * |---|---|---|
 * | queued | a place within NSTART | awaiting |
 * | awaiting | empty Acknowledgement | awaiting, no more retransmissions, its place within NSTART free |
 * | awaiting | response | ended, or observing when it carries Observe |
 * | awaiting | Reset, time-out, unknown critical option | ended (failed) |
 * | observing | newer notification | observing |
 * | observing | Max-Age and a delay without one | observing, asking anew with the same token (RFC 7641 §3.3.1) |
 * | observing | error response, or one without Observe | ended |
 * | observing | that question unanswered or reset | ended (failed) |
 * | observing | cancel | cancelling: GET with Observe 1 and the same token (RFC 7641 §3.6) |
 * | cancelling | anything final | ended, silently |
 */
export class Requester {
  readonly #core: EndpointCore;
  readonly #transmitter: Transmitter;
  readonly #queue: InteractionQueue;
  readonly #timers = new TimerHeap<Exchange>();

  constructor(core: EndpointCore, transmitter: Transmitter, queue: InteractionQueue) {
    this.#core = core;
    this.#transmitter = transmitter;
    this.#queue = queue;
  }

  request(peer: Peer, request: RequestMessage, now: number): Exchange {
    if (!isRequestCode(request.code))
      throw new CoapError("COAP_INVALID_MESSAGE", `${request.code} is no request's code`);
    return this.#begin(peer, request, now);
  }

  /** A Confirmable Empty message, which a peer that lives answers by Reset (RFC 7252 §4.3). */
  ping(peer: Peer, now: number): Exchange {
    return this.#begin(peer, { code: CODE.Empty, options: Options.none, payload: NO_PAYLOAD }, now);
  }

  /** Ends an exchange without any output; an observation is cancelled at the peer too. */
  cancel(exchange: Exchange, now: number): void {
    switch (exchange.state) {
      case "queued":
      case "awaiting":
        this.#end(exchange, now);
        return;
      case "observing":
        this.#settle(exchange, now);
        exchange.state = "cancelling";
        // A full queue leaves it to the Reset that the next notification is answered with (RFC 7641 §3.6).
        if (!this.#queue.enter(exchange, now)) this.#end(exchange, now);
        return;
      case "cancelling":
      case "ended":
        return;
    }
  }

  /** A response by token. Returns what the peer is to be told: that it was received, or that it was not wanted. */
  handleResponse(peer: Peer, message: Message, now: number): "accepted" | "rejected" {
    const exchange = peer.exchanges?.get(tokenKey(message.token));
    if (exchange === undefined || exchange.state === "queued" || exchange.request.code === CODE.Empty)
      return "rejected";
    const isPiggybacked = message.type === MESSAGE_TYPE.Acknowledgement;
    if (isPiggybacked && message.messageId !== exchange.messageId) return "rejected";
    const checked = checkOptions(message.options, this.#core.registry, "response", this.#core.isProxy);
    if (!checked.ok) {
      const error = new CoapError("COAP_BAD_OPTION", `the response has an unknown critical option ${checked.number}`);
      this.handleFailure(exchange, error, now);
      return "rejected";
    }
    // RFC 7252 §5.9.1.3: 2.03 has no payload.
    const payload = message.code === CODE.Valid ? NO_PAYLOAD : message.payload;
    const response: ResponseMessage = { code: message.code, options: checked.options, payload };
    switch (exchange.state) {
      case "awaiting":
        this.#handleFirst(exchange, response, now);
        return "accepted";
      case "observing":
        this.#handleNotification(exchange, response, isPiggybacked, now);
        return "accepted";
      case "cancelling":
        // A notification that crossed the cancellation is taken, so that no Reset is needed; only the answer ends it.
        if (isPiggybacked || response.options.observe === undefined) this.#end(exchange, now);
        return "accepted";
      case "ended":
        return "rejected";
    }
  }

  /** A Reset to a message that no transmission waits for: a Non-confirmable request, or one acknowledged before. */
  handleReset(peer: Peer, messageId: number, now: number): void {
    for (const exchange of peer.exchanges?.values() ?? []) {
      const isAsking = exchange.state !== "observing" || exchange.isRefreshing;
      if (exchange.messageId === messageId && isAsking) return exchange.onReset(now);
    }
  }

  /** The answer to a ping over a reliable transport (RFC 8323 §5.4). */
  handlePong(peer: Peer, token: Uint8Array, now: number): void {
    // libcoap 4.3.1 leaves the token out: it answers the oldest ping then.
    const exchange =
      token.length > 0
        ? peer.exchanges?.get(tokenKey(token))
        : [...(peer.exchanges?.values() ?? [])].find(({ request }) => request.code === CODE.Empty);
    if (exchange?.request.code === CODE.Empty && exchange.state === "awaiting")
      this.#handleFirst(exchange, NOTHING, now);
  }

  nextTimeout(): number | undefined {
    return this.#timers.next();
  }

  handleTimeout(now: number): void {
    for (let due = this.#timers.take(now); due !== undefined; due = this.#timers.take(now)) {
      if (due.state === "observing" && !due.isRefreshing) {
        due.isRefreshing = this.#queue.enter(due, now);
        if (!due.isRefreshing) this.#scheduleRefresh(due, 0, now);
      } else if (due.holdsPlace) {
        // RFC 7252 §4.7: when a Non-confirmable request stops to count as outstanding is left to the client.
        this.#timers.schedule(due, now + this.#core.times.nonLifetimeMs);
        this.#queue.leave(due, now);
        if (wantsNoResponse(due.request.options)) this.#end(due, now);
      } else {
        this.handleFailure(due, new CoapError("COAP_TIMEOUT", "no response came"), now);
      }
    }
  }

  closePeer(peer: Peer, now: number, why?: CoapError): void {
    if (peer.exchanges === undefined) return;
    const error = why ?? new CoapError("COAP_PEER_CLOSED", "the peer was closed before a response came");
    for (const exchange of peer.exchanges.values()) this.handleFailure(exchange, error, now);
  }

  /** For exchanges: their turn within NSTART has come. */
  start(exchange: Exchange, now: number): void {
    const { peer, request, state } = exchange;
    if (state === "queued") exchange.state = "awaiting";
    if (peer.stream !== undefined) {
      this.#startOnStream(exchange, now);
      return;
    }
    // What only renews or ends an observation is Confirmable, that its loss is noticed.
    const isConfirmable = state !== "queued" || (request.isConfirmable ?? true);
    exchange.messageId = peer.takeMessageId();
    const message: Message = {
      type: isConfirmable ? MESSAGE_TYPE.Confirmable : MESSAGE_TYPE.NonConfirmable,
      code: request.code,
      messageId: exchange.messageId,
      token: request.code === CODE.Empty ? NO_PAYLOAD : exchange.token,
      options: state === "cancelling" ? request.options.with(OPTION.Observe, 1) : request.options,
      payload: request.payload,
    };
    const bytes = encodeMessage(message, this.#core.allocate);
    if (isConfirmable) {
      this.#transmitter.send(peer, exchange.messageId, bytes, exchange, now);
    } else {
      this.#core.emit({ type: "datagram", peer, bytes });
      const heldMs = exchange.holdsPlace ? this.#placeHeldMs(peer, bytes.length) : this.#core.times.nonLifetimeMs;
      this.#timers.schedule(exchange, now + heldMs);
      if (wantsNoResponse(request.options)) this.#core.emit({ type: "response", exchange, response: NOTHING });
    }
  }

  /** The transport is reliable, and paces by itself: nothing is sent again, and nothing waits for its turn. */
  #startOnStream(exchange: Exchange, now: number): void {
    const { peer, request, state } = exchange;
    const bytes = peer.encode({
      ...NO_MESSAGE_LAYER,
      code: request.code === CODE.Empty ? SIGNAL.Ping : request.code,
      token: exchange.token,
      options: state === "cancelling" ? request.options.with(OPTION.Observe, 1) : request.options,
      payload: request.payload,
    });
    this.#core.emit({ type: "datagram", peer, bytes });
    this.#timers.schedule(exchange, now + this.#core.times.maxTransmitWaitMs);
    this.#queue.leave(exchange, now);
    if (wantsNoResponse(request.options)) this.#handleFirst(exchange, NOTHING, now);
  }

  /** For exchanges: an empty Acknowledgement. The response comes by itself, within MAX_TRANSMIT_WAIT. */
  awaitSeparateResponse(exchange: Exchange, now: number): void {
    const { code, options } = exchange.request;
    if (code === CODE.Empty || (exchange.state === "awaiting" && wantsNoResponse(options)))
      return this.#handleFirst(exchange, NOTHING, now);
    this.#timers.schedule(exchange, now + this.#core.times.maxTransmitWaitMs);
    this.#queue.leave(exchange, now);
  }

  /** For exchanges. */
  handleFailure(exchange: Exchange, error: CoapError, now: number): void {
    const { state } = exchange;
    if (state === "ended") return;
    this.#end(exchange, now);
    if (state !== "cancelling") this.#core.emit({ type: "failed", exchange, error });
  }

  /** For exchanges: a Reset; it is what a ping asks for. */
  handleRejection(exchange: Exchange, now: number): void {
    if (exchange.request.code === CODE.Empty) this.#handleFirst(exchange, NOTHING, now);
    else this.handleFailure(exchange, new CoapError("COAP_RESET", "the peer rejected the request by Reset"), now);
  }

  /** How long a Non-confirmable request without an answer counts for NSTART (RFC 7252 §4.7 leaves that to the client). */
  #placeHeldMs(peer: Peer, bytes: number): number {
    const { ackTimeoutMs, ackRandomFactor, probingRateBytesPerSecond } = this.#core.parameters;
    const heldMs = ackTimeoutMs * ackRandomFactor;
    if (++peer.unheardRequests <= 2) return heldMs;
    return Math.max(heldMs, (bytes * 1000) / probingRateBytesPerSecond);
  }

  #begin(peer: Peer, request: RequestMessage, now: number): Exchange {
    const exchange = new Exchange(this, peer, request, this.#freeToken(peer));
    if (peer.isClosed) {
      this.handleFailure(exchange, new CoapError("COAP_PEER_CLOSED", "the peer is closed"), now);
      return exchange;
    }
    peer.exchanges ??= new Map();
    peer.exchanges.set(exchange.key, exchange);
    if (request.hasManyResponses === true) {
      this.start(exchange, now);
      return exchange;
    }
    if (!this.#queue.enter(exchange, now)) {
      const limit = this.#core.limits.maxQueuedRequestsPerPeer;
      this.handleFailure(exchange, new CoapError("COAP_LIMIT_REACHED", `${limit} requests wait already`), now);
    }
    return exchange;
  }

  /** Tokens that count come around, but for those of one peer; one that is in use stays what it is. */
  #freeToken(peer: Peer): Uint8Array {
    if (peer.tokensGiven !== undefined) return shortestToken(++peer.tokensGiven);
    const token = this.#core.nextToken();
    if (peer.exchanges?.has(tokenKey(token)) !== true) return token;
    for (let tries = 0; tries < MAX_TOKEN_TRIES; tries++) {
      const other = this.#core.nextToken();
      if (!peer.exchanges.has(tokenKey(other))) return other;
    }
    throw new CoapError("COAP_LIMIT_REACHED", "no token is free");
  }

  #handleFirst(exchange: Exchange, response: ResponseMessage, now: number): void {
    const { options } = response;
    const sequence = options.observe;
    this.#transmitter.finish(exchange.peer, exchange.messageId, exchange, now);
    if (exchange.request.options.observe === 0 && sequence !== undefined && isSuccessCode(response.code)) {
      exchange.state = "observing";
      exchange.newest = { sequence, at: now };
      this.#settle(exchange, now);
      this.#scheduleRefresh(exchange, options.maxAge ?? DEFAULT_MAX_AGE_SECONDS, now);
    } else if (exchange.request.hasManyResponses === true) {
      this.#timers.schedule(exchange, now + this.#core.times.nonLifetimeMs);
    } else {
      this.#end(exchange, now);
    }
    this.#core.emit({ type: "response", exchange, response });
  }

  #handleNotification(exchange: Exchange, response: ResponseMessage, isPiggybacked: boolean, now: number): void {
    const { options } = response;
    const sequence = options.observe;
    if (sequence === undefined || !isSuccessCode(response.code)) {
      this.#end(exchange, now);
    } else {
      // What answers a question of ours is newer than all before it, also where a restarted server counts from the start.
      const isOrdered = (isPiggybacked && exchange.isRefreshing) || exchange.peer.stream !== undefined;
      if (!isOrdered && exchange.newest !== undefined && !isFresher(exchange.newest, { sequence, at: now })) return;
      exchange.newest = { sequence, at: now };
      this.#settle(exchange, now);
      this.#scheduleRefresh(exchange, options.maxAge ?? DEFAULT_MAX_AGE_SECONDS, now);
    }
    this.#core.emit({ type: "notification", exchange, response });
  }

  #scheduleRefresh(exchange: Exchange, maxAgeSeconds: number, now: number): void {
    const { reregistrationDelayMs } = this.#core.parameters;
    if (reregistrationDelayMs === Infinity) return;
    const delayMs = reregistrationDelayMs * (1 + 2 * randomFraction(this.#core));
    this.#timers.schedule(exchange, now + Math.min(maxAgeSeconds, MAX_FRESH_SECONDS) * 1000 + delayMs);
  }

  /** What was sent last needs no more transmissions, time-out or place within NSTART. */
  #settle(exchange: Exchange, now: number): void {
    exchange.isRefreshing = false;
    this.#timers.cancel(exchange);
    this.#transmitter.finish(exchange.peer, exchange.messageId, exchange);
    this.#queue.leave(exchange, now);
  }

  #end(exchange: Exchange, now: number): void {
    exchange.state = "ended";
    const { peer } = exchange;
    if (peer.exchanges?.get(exchange.key) === exchange) peer.exchanges.delete(exchange.key);
    if (peer.exchanges?.size === 0) peer.exchanges = undefined;
    this.#settle(exchange, now);
  }
}

/** What a reliable transport's messages do without. */
const NO_MESSAGE_LAYER = { type: MESSAGE_TYPE.NonConfirmable, messageId: 0 };
const MAX_TOKEN_TRIES = 255;
/** RFC 7252 §5.10.5 */
const DEFAULT_MAX_AGE_SECONDS = 60;
/** An observation is asked for anew once a day at least, whatever Max-Age says. */
const MAX_FRESH_SECONDS = 24 * 3600;
/** What a ping is answered with, and a request that wants no response. */
const NOTHING: ResponseMessage = { code: CODE.Empty, options: Options.none, payload: NO_PAYLOAD };
