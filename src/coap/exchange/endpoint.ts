import { CODE, isRequestCode } from "../wire/code.js";
import { decodeHeader, decodeMessage, encodeEmpty, type Message, MESSAGE_TYPE } from "../wire/message.js";
import { type OptionFormat, optionRegistry } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import type { EndpointCore } from "./core.js";
import type { EndpointOutput } from "./endpoint-output.js";
import { IncomingRequest } from "./incoming-request.js";
import { type RequestMessage, NO_PAYLOAD, type ResponseMessage } from "./messages.js";
import { checkOptions } from "./option-check.js";
import {
  DEFAULT_ENDPOINT_LIMITS,
  DEFAULT_TRANSMISSION_PARAMETERS,
  derivedTimes,
  type EndpointLimits,
  type TransmissionParameters,
} from "./parameters.js";
import { Peer, type RecentMessage } from "./peer.js";
import { type Exchange, Requester } from "./requester.js";
import { Responder } from "./responder.js";
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
  readonly #outputs: EndpointOutput[] = [];
  #polled = 0;
  /** Peers that remember received messages, to forget them in time. */
  readonly #remembering = new Set<Peer>();
  #sweepAt: number | undefined;

  constructor(options: EndpointOptions) {
    const parameters = { ...DEFAULT_TRANSMISSION_PARAMETERS, ...options.parameters };
    this.#core = {
      parameters,
      times: derivedTimes(parameters),
      limits: { ...DEFAULT_ENDPOINT_LIMITS, ...options.limits },
      registry: optionRegistry(options.optionFormats),
      random: options.random,
      emit: (output) => this.#outputs.push(output),
    };
    this.#transmitter = new Transmitter(this.#core);
    this.#requester = new Requester(this.#core, this.#transmitter);
    this.#responder = new Responder(this.#core, this.#transmitter);
  }

  /** Observations that peers hold on us. */
  get observations(): number {
    return this.#responder.observations;
  }

  /** A peer to exchange messages with: one for each DTLS association, or for each remote address on plain UDP. */
  openPeer(): Peer {
    const [high = 0, low = 0] = this.#core.random(2);
    return new Peer(high * 256 + low);
  }

  /** Fails the peer's exchanges with COAP_PEER_CLOSED and ends its observations; nothing is sent to it any more. */
  closePeer(peer: Peer, now: number): void {
    if (peer.isClosed) return;
    peer.isClosed = true;
    this.#requester.closePeer(peer, now);
    this.#responder.closePeer(peer);
    for (const messageId of peer.transmissions?.keys() ?? []) this.#transmitter.finish(peer, messageId);
    peer.recent = undefined;
    this.#remembering.delete(peer);
  }

  /** Whether the peer has neither exchanges, nor observations, nor received messages to remember. */
  isIdle(peer: Peer): boolean {
    const { exchanges, observed, queue, recent, transmissions } = peer;
    return [exchanges, observed, queue, recent, transmissions].every((part) => part === undefined);
  }

  /**
   * Sends a request of one message. Its outcome is an output: `response`, then `notification`s if it established an
   * observation, or `failed`.
   *
   * @throws CoapError COAP_INVALID_MESSAGE when it cannot be encoded.
   */
  request(peer: Peer, request: RequestMessage, now: number): Exchange {
    return this.#requester.request(peer, request, now);
  }

  /** Ends an exchange or observation of ours without an output. */
  cancel(exchange: Exchange, now: number): void {
    this.#requester.cancel(exchange, now);
  }

  respond(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    this.#responder.respond(incoming, response, now);
  }

  /** As {@link respond}, and keeps the observation that was asked for. Returns whether there is one. */
  respondObserved(incoming: IncomingRequest, response: ResponseMessage, now: number): boolean {
    return this.#responder.respondObserved(incoming, response, now);
  }

  /** Sends a notification of an observation, Confirmable as its request was. A newer one takes an unacknowledged one's place. */
  notify(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    this.#responder.notify(incoming, response, now);
  }

  /** Views of `datagram` live on in outputs: the caller must leave it unchanged. */
  handleDatagram(peer: Peer, datagram: Uint8Array, now: number): void {
    if (peer.isClosed) return;
    this.counters.received++;
    let message: Message;
    try {
      message = decodeMessage(datagram);
    } catch {
      this.#rejectMalformed(peer, datagram);
      return;
    }
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

  /** The next output; undefined when there is none. */
  poll(): EndpointOutput | undefined {
    const output = this.#outputs[this.#polled];
    if (output === undefined) {
      this.#outputs.length = 0;
      this.#polled = 0;
      return undefined;
    }
    this.#polled++;
    return output;
  }

  /** Absolute ms of the next call to `handleTimeout`; undefined when nothing waits. Call it after polling. */
  nextTimeout(): number | undefined {
    const next = Math.min(
      this.#transmitter.nextTimeout() ?? Infinity,
      this.#requester.nextTimeout() ?? Infinity,
      this.#responder.nextTimeout() ?? Infinity,
      this.#sweepAt ?? Infinity,
    );
    return next === Infinity ? undefined : next;
  }

  handleTimeout(now: number): void {
    this.#transmitter.handleTimeout(now);
    this.#requester.handleTimeout(now);
    this.#responder.handleTimeout(now);
    if (this.#sweepAt !== undefined && now >= this.#sweepAt) this.#forgetOldMessages(now);
  }

  #handleMessage(peer: Peer, message: Message, isConfirmable: boolean, now: number): void {
    const { messageId, code } = message;
    if (code === CODE.Empty) {
      // RFC 7252 §4.3: a Confirmable Empty message is a ping; its answer is a Reset.
      this.#send(peer, encodeEmpty(MESSAGE_TYPE.Reset, messageId));
      return;
    }
    const duplicate = peer.recent?.get(messageId);
    if (duplicate !== undefined && duplicate.expiresAt > now) {
      this.counters.duplicates++;
      if (isConfirmable && duplicate.reply !== undefined) this.#send(peer, duplicate.reply);
      return;
    }
    const recent = this.#remember(peer, messageId, isConfirmable, now);
    if (isRequestCode(code)) {
      this.#handleRequest(peer, message, isConfirmable, recent, now);
    } else {
      const verdict = this.#requester.handleResponse(peer, message, now);
      if (verdict === "rejected") this.counters.rejected++;
      if (!isConfirmable && verdict === "accepted") return;
      // RFC 7641 §3.6: a Non-confirmable notification that is not wanted is answered by Reset as well.
      recent.reply = encodeEmpty(verdict === "accepted" ? MESSAGE_TYPE.Acknowledgement : MESSAGE_TYPE.Reset, messageId);
      this.#send(peer, recent.reply);
    }
  }

  #handleRequest(peer: Peer, message: Message, isConfirmable: boolean, recent: RecentMessage, now: number): void {
    const checked = checkOptions(message.options, this.#core.registry);
    const options = checked.ok ? checked.options : Options.none;
    const incoming = new IncomingRequest(peer, message, options, isConfirmable, recent, now);
    if (checked.ok) {
      this.#responder.handleRequest(incoming);
      return;
    }
    this.counters.rejected++;
    // RFC 7252 §5.4.1: 4.02 to a Confirmable request; a Non-confirmable one is rejected, here in silence.
    if (!isConfirmable) return;
    const payload = TEXT_ENCODER.encode(`option ${checked.number} is critical and not understood`);
    this.#responder.respond(incoming, { code: CODE.BadOption, options: Options.none, payload }, now);
  }

  #handleAcknowledgement(peer: Peer, message: Message, now: number): void {
    if (message.code === CODE.Empty) {
      this.#transmitter.finish(peer, message.messageId)?.owner.onAcknowledgement(now);
    } else if (this.#requester.handleResponse(peer, message, now) === "rejected") {
      this.counters.rejected++;
    }
  }

  #handleReset(peer: Peer, message: Message, now: number): void {
    const transmission = this.#transmitter.finish(peer, message.messageId);
    if (transmission !== undefined) transmission.owner.onReset(now);
    else this.#responder.handleReset(peer, message.messageId);
  }

  #rejectMalformed(peer: Peer, datagram: Uint8Array): void {
    this.counters.malformed++;
    const header = decodeHeader(datagram);
    if (header?.type === MESSAGE_TYPE.Confirmable) this.#send(peer, encodeEmpty(MESSAGE_TYPE.Reset, header.messageId));
  }

  #remember(peer: Peer, messageId: number, isConfirmable: boolean, now: number): RecentMessage {
    const { exchangeLifetimeMs, nonLifetimeMs } = this.#core.times;
    const recent: RecentMessage = {
      expiresAt: now + (isConfirmable ? exchangeLifetimeMs : nonLifetimeMs),
      reply: undefined,
    };
    if (peer.recent === undefined) {
      peer.recent = new Map();
      this.#remembering.add(peer);
      this.#sweepAt ??= now + SWEEP_INTERVAL_MS;
    }
    peer.recent.delete(messageId);
    peer.recent.set(messageId, recent);
    if (peer.recent.size > this.#core.limits.maxRecentMessagesPerPeer) {
      for (const oldest of peer.recent.keys()) {
        peer.recent.delete(oldest);
        break;
      }
    }
    return recent;
  }

  #forgetOldMessages(now: number): void {
    for (const peer of this.#remembering) {
      for (const [messageId, recent] of peer.recent ?? []) {
        if (recent.expiresAt <= now) peer.recent?.delete(messageId);
      }
      if (peer.recent?.size !== 0) continue;
      peer.recent = undefined;
      this.#remembering.delete(peer);
    }
    this.#sweepAt = this.#remembering.size === 0 ? undefined : now + SWEEP_INTERVAL_MS;
  }

  #send(peer: Peer, bytes: Uint8Array): void {
    this.#core.emit({ type: "datagram", peer, bytes });
  }
}

export interface EndpointOptions {
  /** Unguessable bytes, for tokens and first messageIds. */
  readonly random: (size: number) => Uint8Array;
  readonly parameters?: Partial<TransmissionParameters>;
  readonly limits?: Partial<EndpointLimits>;
  /** Options that the application understands besides those of the RFCs. */
  readonly optionFormats?: readonly OptionFormat[];
}

export interface EndpointCounters {
  received: number;
  malformed: number;
  duplicates: number;
  /** Unknown critical options, and responses that nobody waits for. */
  rejected: number;
}

/** A response with no payload. */
export function emptyResponse(code: number, options: Options = Options.none): ResponseMessage {
  return { code, options, payload: NO_PAYLOAD };
}

const SWEEP_INTERVAL_MS = 30_000;
const TEXT_ENCODER = new TextEncoder();
