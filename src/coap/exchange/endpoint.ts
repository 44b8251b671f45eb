import type { CoapError } from "../errors.js";
import { BASE_CAPABILITIES, encodeCsm } from "../stream/signals.js";
import type { StreamMessage } from "../stream/stream-message.js";
import { CODE, isRequestCode, isResponseCode } from "../wire/code.js";
import {
  decodeHeader,
  encodeEmpty,
  type Message,
  MESSAGE_TYPE,
  type MessageType,
  ownArray,
  type ReceivedMessage,
  receiveMessage,
} from "../wire/message.js";
import { Options } from "../wire/options.js";
import type { EndpointCore } from "./core.js";
import {
  type EndpointCounters,
  type EndpointOptions,
  type PeerOptions,
  understoodOptions,
} from "./endpoint-options.js";
import type { EndpointOutput } from "./endpoint-output.js";
import type { Exchange } from "./exchange.js";
import { IncomingRequest } from "./incoming-request.js";
import { InteractionQueue } from "./interaction-queue.js";
import type { RequestMessage, ResponseMessage } from "./messages.js";
import { checkOptions } from "./option-check.js";
import { OutputQueue } from "./output-queue.js";
import { DEFAULT_ENDPOINT_LIMITS, derivedTimes, transmissionParameters } from "./parameters.js";
import { Peer } from "./peer.js";
import { type RecentMessage, recentMessage, RecentMessages } from "./recent-messages.js";
import { refusalOf, refusalOfOption } from "./refusal.js";
import { Requester } from "./requester.js";
import { Responder } from "./responder.js";
import { SignalHandler } from "./signal-handler.js";
import { countedTokens, randomTokens } from "./token-source.js";
import { Transmitter } from "./transmitter.js";

/**
 * A CoAP endpoint (RFC 7252), client and server at once toward any number of peers. It does no I/O: hand it datagrams and
 * the time, and poll its outputs after each call.
 *
 * Noise never throws: it is answered as §4 says or dropped, and counted in `counters`.
 */
export class Endpoint {
  readonly counters: EndpointCounters = { received: 0, malformed: 0, duplicates: 0, rejected: 0 };

  readonly #core: EndpointCore;
  readonly #transmitter: Transmitter;
  readonly #requester: Requester;
  readonly #responder: Responder;
  readonly #recent: RecentMessages;
  readonly #signals: SignalHandler;
  readonly #hasFirstToken: boolean;
  readonly #outputs = new OutputQueue();

  constructor(options: EndpointOptions) {
    this.#hasFirstToken = options.dangerFirstToken !== undefined;
    const parameters = transmissionParameters(options.parameters);
    this.#core = {
      parameters,
      times: derivedTimes(parameters),
      limits: { ...DEFAULT_ENDPOINT_LIMITS, ...options.limits },
      registry: understoodOptions(options),
      isProxy: options.isProxy ?? false,
      random: options.random,
      allocate: options.allocate ?? ownArray,
      nextToken:
        options.dangerFirstToken === undefined ? randomTokens(options.random) : countedTokens(options.dangerFirstToken),
      emit: (output) => this.#outputs.push(output),
    };
    const queue = new InteractionQueue(this.#core);
    this.#transmitter = new Transmitter(this.#core);
    this.#requester = new Requester(this.#core, this.#transmitter, queue);
    this.#recent = new RecentMessages(this.#core.limits);
    this.#responder = new Responder(this.#core, this.#transmitter, queue, this.#recent);
    this.#signals = new SignalHandler(this.#core, this.#requester);
  }

  /** Received messages that are remembered against duplicates, of all peers. */
  get recentMessages(): number {
    return this.#recent.size;
  }

  /** Bytes of the replies that are kept with them. */
  get recentReplyBytes(): number {
    return this.#recent.replyBytes;
  }

  /** Observations that peers hold on us. */
  get observations(): number {
    return this.#responder.observations;
  }

  /** A peer to exchange messages with: one for each DTLS association, or for each remote address on plain UDP. */
  openPeer({ countsTokens = false }: PeerOptions = {}): Peer {
    const random = this.#core.random(2);
    const peer = new Peer((random[0] ?? 0) * 256 + (random[1] ?? 0));
    if (countsTokens && !this.#hasFirstToken) peer.tokensGiven = 0;
    return peer;
  }

  /** A peer on a reliable transport (RFC 8323), one for each connection: its first output is our CSM. */
  openStreamPeer(): Peer {
    const peer = new Peer(0, {
      capabilities: BASE_CAPABILITIES,
      isSettled: false,
      unanswered: new Map(),
      received: 0,
      custodies: [],
    });
    this.#send(peer, encodeCsm(this.#core.limits.maxStreamMessageBytes));
    return peer;
  }

  /** Begins to end the connection in order: what is under way is still answered, then the peer closes it (RFC 8323 §5.5). */
  release(peer: Peer): void {
    this.#signals.release(peer);
  }

  /** Ends a reliable transport for a fault of the peer's, with an Abort that says which (RFC 8323 §5.6). */
  abort(peer: Peer, reason: string): void {
    this.#signals.abort(peer, reason);
  }

  /** Fails the peer's exchanges, by default with COAP_PEER_CLOSED, and ends its observations; nothing is sent to it any more. */
  closePeer(peer: Peer, now: number, why?: CoapError): void {
    if (peer.isClosed) return;
    peer.isClosed = true;
    peer.queue = undefined;
    this.#requester.closePeer(peer, now, why);
    this.#responder.closePeer(peer, now);
    this.#transmitter.closePeer(peer);
    this.#recent.forgetPeer(peer);
  }

  /** Whether the peer has neither exchanges, nor observations, nor received messages to remember. */
  isIdle(peer: Peer): boolean {
    return peer.recent === undefined && !this.isEngaged(peer);
  }

  /**
   * Whether anything is under way with the peer: exchanges, observations, transmissions. Closing a peer that is neither
   * idle nor engaged loses only the memory of its latest messages: a duplicate of one would be handled again.
   */
  isEngaged(peer: Peer): boolean {
    const { exchanges, observed, queue, transmissions } = peer;
    return [exchanges, observed, queue, transmissions].some((part) => part !== undefined);
  }

  /**
   * Sends a request of one message. Its outcome is an output: `response`, then `notification`s if it established an
   * observation, or `failed`. Where its No-Response wants none (RFC 7967), a response with the code 0.00 tells that it was
   * acknowledged, or sent when it is Non-confirmable.
   *
   * @throws CoapError COAP_INVALID_MESSAGE when its code is no request's.
   */
  request(peer: Peer, request: RequestMessage, now: number): Exchange {
    return this.#requester.request(peer, request, now);
  }

  /**
   * Asks whether the peer lives (RFC 7252 §4.3). The outcome is an output as of a request: a `response` with the code
   * 0.00 and nothing else, or `failed`.
   */
  ping(peer: Peer, now: number): Exchange {
    return this.#requester.ping(peer, now);
  }

  /**
   * Sends again at once what the peer has not acknowledged, besides its back-off: for who has learnt that the path, which was
   * thought lost, is there. Returns how many messages that is.
   */
  retransmit(peer: Peer): number {
    return this.#transmitter.retransmit(peer);
  }

  /** Ends an exchange or observation of ours without an output. */
  cancel(exchange: Exchange, now: number): void {
    this.#requester.cancel(exchange, now);
  }

  /**
   * Answers a request: piggybacked while its Acknowledgement has not gone out, else separately. A second answer, or one
   * after the peer closed, does nothing. `allowance`: what may be sent in all to an address that may be forged, in bytes; the
   * answer is sent again only as often as that allows.
   *
   * @throws CoapError COAP_INVALID_MESSAGE when its code is no response's; the request may still be answered then.
   */
  respond(incoming: IncomingRequest, response: ResponseMessage, now: number, allowance: number = Infinity): void {
    this.#responder.respond(incoming, response, now, allowance);
    this.#signals.requestAnswered(incoming);
  }

  /** As {@link respond}, but never sent again: what an address that may be forged is told (RFC 9175 §2.4). */
  respondOnce(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    this.#responder.respond(incoming, response, now, 0);
    this.#signals.requestAnswered(incoming);
  }

  /** As {@link respond}, any number of times: after the first one by Non-confirmable messages (RFC 9177 §4.4). */
  respondMore(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    this.#responder.respondMore(incoming, response, now);
    this.#signals.requestAnswered(incoming);
  }

  /**
   * As {@link respond}, and keeps the observation that was asked for. Returns whether there is one. Where there is an
   * `allowance`, the first notification is held to it too, and Confirmable, whatever the request was (RFC 7641 §7).
   */
  respondObserved(
    incoming: IncomingRequest,
    response: ResponseMessage,
    now: number,
    allowance: number = Infinity,
  ): boolean {
    const isObserved = this.#responder.respondObserved(incoming, response, now, allowance);
    this.#signals.requestAnswered(incoming);
    return isObserved;
  }

  /** Sends a notification of an observation, Confirmable as its request was or now and then. A newer one takes an unacknowledged one's place. */
  notify(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    this.#responder.notify(incoming, response, now);
  }

  /** Views of `datagram` live on in outputs: the caller must leave it unchanged. */
  handleDatagram(peer: Peer, datagram: Uint8Array, now: number): void {
    if (peer.isClosed) return;
    this.counters.received++;
    let message: ReceivedMessage;
    try {
      message = receiveMessage(datagram);
    } catch {
      this.#rejectMalformed(peer, datagram);
      return;
    }
    peer.unheardRequests = 0;
    switch (message.type) {
      case MESSAGE_TYPE.Confirmable:
      case MESSAGE_TYPE.NonConfirmable:
        return this.#handleMessage(peer, message, message.type === MESSAGE_TYPE.Confirmable, now);
      case MESSAGE_TYPE.Acknowledgement:
        return this.#handleAcknowledgement(peer, message, now);
      case MESSAGE_TYPE.Reset:
        return this.#handleReset(peer, message, now);
    }
  }

  /** Takes a message of a peer on a reliable transport. Its bytes live on in outputs. */
  handleStreamMessage(peer: Peer, message: StreamMessage, now: number): void {
    const { stream } = peer;
    if (peer.isClosed || stream === undefined) return;
    this.counters.received++;
    const { code } = message;
    if (code >> 5 === SIGNAL_CLASS) return this.#signals.handle(peer, stream, message, now);
    // RFC 8323 §5.3: the first message is a CSM; others before it end the connection.
    if (!stream.isSettled) return this.abort(peer, "the first message is no CSM");
    // §3.4: an Empty message says nothing here.
    if (code === CODE.Empty) return;
    if (isRequestCode(code)) {
      this.#handleRequest(peer, { ...message, ...NO_MESSAGE_LAYER }, false, recentMessage(peer, 0, 0), now);
    } else if (isResponseCode(code)) {
      const verdict = this.#requester.handleResponse(peer, { ...message, ...NO_MESSAGE_LAYER }, now);
      // §3.4: a response that nobody waits for is ignored, as there is no Reset.
      if (verdict === "rejected") this.counters.rejected++;
    }
  }

  /** The next output; undefined when there is none. */
  poll(): EndpointOutput | undefined {
    return this.#outputs.take();
  }

  /** Absolute ms of the next call to `handleTimeout`; undefined when nothing waits. Call it after polling. */
  nextTimeout(): number | undefined {
    const next = Math.min(
      this.#transmitter.nextTimeout() ?? Infinity,
      this.#requester.nextTimeout() ?? Infinity,
      this.#responder.nextTimeout() ?? Infinity,
      this.#recent.nextTimeout() ?? Infinity,
    );
    return next === Infinity ? undefined : next;
  }

  handleTimeout(now: number): void {
    this.#transmitter.handleTimeout(now);
    this.#requester.handleTimeout(now);
    this.#responder.handleTimeout(now);
    this.#recent.handleTimeout(now);
  }

  #handleMessage(peer: Peer, message: Message, isConfirmable: boolean, now: number): void {
    const { messageId, code } = message;
    if (code === CODE.Empty) {
      // RFC 7252 §4.3: a Confirmable Empty message is a ping; its answer is a Reset.
      this.#sendEmpty(peer, MESSAGE_TYPE.Reset, messageId);
      return;
    }
    const duplicate = this.#recent.find(peer, messageId, now);
    if (duplicate !== undefined) {
      this.counters.duplicates++;
      const reply = isConfirmable ? this.#recent.replyOf(duplicate, this.#core.allocate) : undefined;
      if (reply !== undefined) this.#send(peer, reply);
      return;
    }
    const { exchangeLifetimeMs, nonLifetimeMs } = this.#core.times;
    const recent = this.#recent.remember(peer, messageId, now + (isConfirmable ? exchangeLifetimeMs : nonLifetimeMs));
    if (isRequestCode(code)) {
      this.#handleRequest(peer, message, isConfirmable, recent, now);
    } else {
      const verdict = this.#requester.handleResponse(peer, message, now);
      if (verdict === "rejected") this.counters.rejected++;
      if (!isConfirmable && verdict === "accepted") return;
      // RFC 7641 §3.6: a Non-confirmable notification that is not wanted is answered by Reset as well.
      const type = verdict === "accepted" ? MESSAGE_TYPE.Acknowledgement : MESSAGE_TYPE.Reset;
      this.#recent.keepReply(recent, this.#sendEmpty(peer, type, messageId));
    }
  }

  #handleRequest(peer: Peer, message: Message, isConfirmable: boolean, recent: RecentMessage, now: number): void {
    const checked = checkOptions(message.options, this.#core.registry, "request", this.#core.isProxy);
    const options = checked.ok ? checked.options : Options.none;
    const incoming = new IncomingRequest(peer, message, options, isConfirmable, recent, now);
    const refusal = checked.ok ? refusalOf(message) : refusalOfOption(checked.number);
    if (refusal === undefined) {
      this.#signals.requestReceived(incoming);
      return this.#responder.handleRequest(incoming);
    }
    this.counters.rejected++;
    // RFC 7252 §5.4.1: a Non-confirmable request with an option that is not understood is rejected, here in silence.
    if (!isConfirmable && peer.stream === undefined && refusal.code === CODE.BadOption) return;
    this.#responder.respond(incoming, refusal, now);
  }

  #handleAcknowledgement(peer: Peer, message: Message, now: number): void {
    if (message.code === CODE.Empty) {
      this.#transmitter.finish(peer, message.messageId, undefined, now)?.owner.onAcknowledgement(now);
    } else if (this.#requester.handleResponse(peer, message, now) === "rejected") {
      this.counters.rejected++;
    }
  }

  #handleReset(peer: Peer, message: Message, now: number): void {
    const transmission = this.#transmitter.finish(peer, message.messageId, undefined, now);
    if (transmission !== undefined) return transmission.owner.onReset(now);
    this.#requester.handleReset(peer, message.messageId, now);
    this.#responder.handleReset(peer, message.messageId, now);
  }

  #rejectMalformed(peer: Peer, datagram: Uint8Array): void {
    this.counters.malformed++;
    const header = decodeHeader(datagram);
    if (header?.type === MESSAGE_TYPE.Confirmable) this.#sendEmpty(peer, MESSAGE_TYPE.Reset, header.messageId);
  }

  #sendEmpty(peer: Peer, type: MessageType, messageId: number): Uint8Array {
    const bytes = encodeEmpty(type, messageId, this.#core.allocate);
    this.#send(peer, bytes);
    return bytes;
  }

  #send(peer: Peer, bytes: Uint8Array): void {
    this.#core.emit({ type: "datagram", peer, bytes });
  }
}

const NO_MESSAGE_LAYER = { type: MESSAGE_TYPE.NonConfirmable, messageId: 0 };
const SIGNAL_CLASS = 7;
