import { CoapError } from "../errors.js";
import { isResponseCode, isSuccessCode } from "../wire/code.js";
import { encodeEmpty, MESSAGE_TYPE, type MessageType } from "../wire/message.js";
import { OPTION } from "../wire/option-registry.js";
import { AcknowledgementQueue } from "./acknowledgement-queue.js";
import type { EndpointCore } from "./core.js";
import type { ObservationEnd } from "./endpoint-output.js";
import { isUnwanted } from "../no-response.js";
import { type IncomingRequest, isObservable } from "./incoming-request.js";
import type { Interaction, InteractionQueue } from "./interaction-queue.js";
import type { ResponseMessage } from "./messages.js";
import { OBSERVE_SEQUENCE_RANGE } from "./observe-freshness.js";
import type { Peer } from "./peer.js";
import type { RecentMessages } from "./recent-messages.js";
import type { TransmissionOwner, Transmitter } from "./transmitter.js";

/**
 * The server half of an endpoint: responses to requests of peers, piggybacked or separate (RFC 7252 §5.2), and the
 * notifications of their observations (RFC 7641 §4).
 */
export class Responder {
  readonly #core: EndpointCore;
  readonly #transmitter: Transmitter;
  readonly #queue: InteractionQueue;
  readonly #recent: RecentMessages;
  readonly #unanswered: AcknowledgementQueue;
  #observations = 0;

  constructor(core: EndpointCore, transmitter: Transmitter, queue: InteractionQueue, recent: RecentMessages) {
    this.#recent = recent;
    this.#core = core;
    this.#transmitter = transmitter;
    this.#queue = queue;
    this.#unanswered = new AcknowledgementQueue(core.parameters.separateResponseDelayMs);
  }

  get observations(): number {
    return this.#observations;
  }

  handleRequest(incoming: IncomingRequest): void {
    const { peer, options } = incoming;
    if (peer.observed !== undefined && options.observe === 1 && isObservable(incoming.code)) {
      const previous = peer.observed.get(incoming.tokenKey);
      if (previous !== undefined) this.endObservation(previous, "cancelled", incoming.receivedAt);
    }
    if (incoming.isConfirmable) this.#unanswered.add(incoming);
    this.#core.emit({ type: "request", incoming });
  }

  /** The first answer counts; more, or one after the peer closed, are ignored. See `Endpoint.respond` for `allowance`. */
  respond(incoming: IncomingRequest, response: ResponseMessage, now: number, allowance: number = Infinity): void {
    checkCode(response);
    if (incoming.progress === "answered" || incoming.peer.isClosed) return;
    // RFC 7641 §4.1: an observation that is asked for anew and not granted is over.
    if (incoming.peer.observed !== undefined && incoming.isObserve) {
      const previous = incoming.peer.observed.get(incoming.tokenKey);
      if (previous !== undefined) this.endObservation(previous, "replaced", now);
    }
    this.#answer(incoming, response, now, allowance);
  }

  /** Answers once, or once more by a Non-confirmable message with the same token (RFC 9177 §4.4). */
  respondMore(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    if (incoming.progress !== "answered") return this.respond(incoming, response, now);
    checkCode(response);
    if (!incoming.peer.isClosed) this.#sendNonConfirmable(incoming, response);
  }

  /**
   * Answers a request with Observe 0 and keeps its token for `notify`. Returns whether there is an observation now: not
   * when the response is an error, or a limit is reached; then it is answered as a plain request.
   */
  respondObserved(incoming: IncomingRequest, response: ResponseMessage, now: number, allowance: number): boolean {
    checkCode(response);
    const { peer } = incoming;
    if (incoming.progress === "answered" || peer.isClosed) return false;
    const key = incoming.tokenKey;
    const previous = peer.observed?.get(key);
    const { maxObservations, maxObservationsPerPeer } = this.#core.limits;
    const hasRoom =
      previous !== undefined ||
      ((peer.observed?.size ?? 0) < maxObservationsPerPeer && this.#observations < maxObservations);
    if (!incoming.isObserve || !isSuccessCode(response.code) || !hasRoom) {
      this.respond(incoming, response, now, allowance);
      return false;
    }
    if (previous !== undefined) this.endObservation(previous, "replaced", now);
    peer.observed ??= new Map();
    const observed = new ObservedRequest(this, incoming, key, now, allowance);
    // The first notification asks an address that may be forged whether it wants any (RFC 7641 §7).
    if (allowance < Infinity) observed.unconfirmed = this.#core.parameters.maxNonConfirmableNotifications;
    peer.observed.set(key, observed);
    this.#observations++;
    this.#answer(incoming, withSequence(peer, response), now, allowance);
    return true;
  }

  /** Sends a notification. An error response ends the observation. Without one it does nothing. */
  notify(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    checkCode(response);
    const { peer } = incoming;
    const observed = peer.observed?.get(incoming.tokenKey);
    if (observed === undefined || observed.incoming !== incoming) return;
    if (!isSuccessCode(response.code)) {
      this.endObservation(observed, "error-response", now);
      this.#sendSeparately(incoming, response, now, observed.allowance);
      return;
    }
    // RFC 7641 §4.5.2: while an older one is in transit, or waits for NSTART, the newer takes its place.
    const isWaiting = observed.isInTransit || observed.content !== undefined;
    const isReliable = peer.stream !== undefined;
    if (isReliable || (!isWaiting && !incoming.isConfirmable && !this.#isConfirmationDue(observed, now))) {
      observed.unconfirmed++;
      observed.messageId = this.#sendNonConfirmable(incoming, withSequence(peer, response));
      return;
    }
    observed.content = withSequence(peer, response);
    // A full queue drops this state; the next one tries again.
    if (!isWaiting && !this.#queue.enter(observed, now)) observed.content = undefined;
  }

  /** A Reset to a message that no transmission waits for: the answer to a Non-confirmable notification. */
  handleReset(peer: Peer, messageId: number, now: number): void {
    for (const observed of peer.observed?.values() ?? []) {
      if (observed.messageId === messageId) return this.endObservation(observed, "reset", now);
    }
  }

  /** For observations. */
  endObservation(observed: ObservedRequest, cause: ObservationEnd, now: number): void {
    const { incoming, peer, key } = observed;
    if (peer.observed?.get(key) !== observed) return;
    peer.observed.delete(key);
    if (peer.observed.size === 0) peer.observed = undefined;
    this.#observations--;
    observed.content = undefined;
    this.#transmitter.finish(peer, observed.messageId, observed);
    this.#queue.leave(observed, now);
    this.#core.emit({ type: "observation-ended", incoming, cause });
  }

  /** For observations: their turn within NSTART has come. */
  startNotification(observed: ObservedRequest, now: number): void {
    const { peer } = observed;
    observed.isInTransit = true;
    const next = observed.takeContent();
    if (next === undefined) return;
    this.#transmitter.send(peer, next.messageId, next.bytes, observed, now, observed.allowance);
  }

  /** For observations. */
  acknowledged(observed: ObservedRequest, now: number): void {
    observed.isInTransit = false;
    observed.allowance = Infinity;
    observed.confirmedAt = now;
    observed.unconfirmed = 0;
    this.#queue.leave(observed, now);
    if (observed.content !== undefined && !this.#queue.enter(observed, now)) observed.content = undefined;
  }

  /** For separate responses. */
  startSeparate(separate: SeparateResponse, now: number): void {
    const { peer, incoming, response, allowance } = separate;
    const messageId = peer.takeMessageId();
    const bytes = this.encode(incoming, MESSAGE_TYPE.Confirmable, messageId, response);
    this.#transmitter.send(peer, messageId, bytes, separate, now, allowance);
  }

  /** For separate responses: acknowledged or not, there is no more to do (RFC 7252 §5.2.2). */
  endSeparate(separate: SeparateResponse, now: number): void {
    this.#queue.leave(separate, now);
  }

  /** For observations. */
  encode(incoming: IncomingRequest, type: MessageType, messageId: number, response: ResponseMessage): Uint8Array {
    return incoming.encode(type, messageId, response, this.#core.allocate);
  }

  closePeer(peer: Peer, now: number): void {
    for (const observed of peer.observed?.values() ?? []) this.endObservation(observed, "peer-closed", now);
  }

  nextTimeout(): number | undefined {
    return this.#unanswered.next();
  }

  handleTimeout(now: number): void {
    for (let due = this.#unanswered.take(now); due !== undefined; due = this.#unanswered.take(now)) {
      due.progress = "acknowledged";
      this.#reply(due, encodeEmpty(MESSAGE_TYPE.Acknowledgement, due.messageId, this.#core.allocate));
    }
  }

  #answer(incoming: IncomingRequest, response: ResponseMessage, now: number, allowance: number): void {
    const { progress } = incoming;
    incoming.progress = "answered";
    if (isUnwanted(incoming.options, response.code)) {
      // RFC 7967 §2: a Confirmable request is acknowledged all the same.
      if (incoming.isConfirmable && progress === "received")
        this.#reply(incoming, encodeEmpty(MESSAGE_TYPE.Acknowledgement, incoming.messageId, this.#core.allocate));
    } else if (!incoming.isConfirmable) {
      this.#sendNonConfirmable(incoming, response);
    } else if (progress === "received") {
      this.#reply(incoming, this.encode(incoming, MESSAGE_TYPE.Acknowledgement, incoming.messageId, response));
    } else if (allowance > 0) {
      this.#sendSeparately(incoming, response, now, allowance);
    } else {
      this.#sendNonConfirmable(incoming, response);
    }
  }

  #reply(incoming: IncomingRequest, bytes: Uint8Array): void {
    this.#recent.keepReply(incoming.recent, bytes);
    this.#core.emit({ type: "datagram", peer: incoming.peer, bytes });
  }

  #sendSeparately(incoming: IncomingRequest, response: ResponseMessage, now: number, allowance: number): void {
    if (incoming.peer.stream !== undefined) {
      this.#sendNonConfirmable(incoming, response);
      return;
    }
    const separate = new SeparateResponse(this, incoming, response, allowance);
    if (!this.#queue.enter(separate, now)) this.#sendNonConfirmable(incoming, response);
  }

  #sendNonConfirmable(incoming: IncomingRequest, response: ResponseMessage): number {
    const { peer } = incoming;
    const messageId = peer.takeMessageId();
    const bytes = this.encode(incoming, MESSAGE_TYPE.NonConfirmable, messageId, response);
    this.#core.emit({ type: "datagram", peer, bytes });
    return messageId;
  }

  #isConfirmationDue(observed: ObservedRequest, now: number): boolean {
    const { confirmableNotificationIntervalMs, maxNonConfirmableNotifications } = this.#core.parameters;
    return (
      now - observed.confirmedAt >= confirmableNotificationIntervalMs ||
      observed.unconfirmed >= maxNonConfirmableNotifications
    );
  }
}

/**
 * A request with Observe 0 that was accepted. Its newest state is `content` while it waits for a place within NSTART, or
 * for the end of an older one's transmission.
 */
export class ObservedRequest implements TransmissionOwner, Interaction {
  readonly incoming: IncomingRequest;
  readonly peer: Peer;
  /** Of its token. */
  readonly key: string;
  holdsPlace = false;
  isInTransit = false;
  content: ResponseMessage | undefined;
  /** Of the newest notification. */
  messageId = -1;
  /** When the client last showed that it lives. */
  confirmedAt: number;
  /** Non-confirmable notifications since. */
  unconfirmed = 0;
  /** Of bytes, until it has shown that it wants notifications. */
  allowance: number;
  readonly #responder: Responder;

  constructor(responder: Responder, incoming: IncomingRequest, key: string, now: number, allowance: number) {
    this.#responder = responder;
    this.incoming = incoming;
    this.peer = incoming.peer;
    this.key = key;
    this.confirmedAt = now;
    this.allowance = allowance;
  }

  /** The newest state as a Confirmable message; undefined when it has been sent already. */
  takeContent(): { readonly messageId: number; readonly bytes: Uint8Array } | undefined {
    const { content } = this;
    if (content === undefined) return undefined;
    this.content = undefined;
    this.messageId = this.peer.takeMessageId();
    return {
      messageId: this.messageId,
      bytes: this.#responder.encode(this.incoming, MESSAGE_TYPE.Confirmable, this.messageId, content),
    };
  }

  start(now: number): void {
    this.#responder.startNotification(this, now);
  }

  onAcknowledgement(now: number): void {
    this.#responder.acknowledged(this, now);
  }

  onReset(now: number): void {
    this.#responder.endObservation(this, "reset", now);
  }

  onTransmissionTimeout(now: number): void {
    this.#responder.endObservation(this, "timeout", now);
  }

  onRetransmission(): { readonly messageId: number; readonly bytes: Uint8Array } | undefined {
    return this.takeContent();
  }
}

/** A Confirmable response after an empty Acknowledgement, or the error that ends an observation. */
class SeparateResponse implements TransmissionOwner, Interaction {
  readonly incoming: IncomingRequest;
  readonly peer: Peer;
  readonly response: ResponseMessage;
  readonly allowance: number;
  holdsPlace = false;
  readonly #responder: Responder;

  constructor(responder: Responder, incoming: IncomingRequest, response: ResponseMessage, allowance: number) {
    this.#responder = responder;
    this.incoming = incoming;
    this.peer = incoming.peer;
    this.response = response;
    this.allowance = allowance;
  }

  start(now: number): void {
    this.#responder.startSeparate(this, now);
  }

  onAcknowledgement(now: number): void {
    this.#responder.endSeparate(this, now);
  }

  onReset(now: number): void {
    this.#responder.endSeparate(this, now);
  }

  onTransmissionTimeout(now: number): void {
    this.#responder.endSeparate(this, now);
  }
}

function withSequence(peer: Peer, response: ResponseMessage): ResponseMessage {
  peer.observeSequence = (peer.observeSequence + 1) % OBSERVE_SEQUENCE_RANGE;
  return { ...response, options: response.options.with(OPTION.Observe, peer.observeSequence) };
}

function checkCode(response: ResponseMessage): void {
  if (!isResponseCode(response.code))
    throw new CoapError("COAP_INVALID_MESSAGE", `${response.code} is no response's code`);
}
