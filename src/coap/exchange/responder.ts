import { isSuccessCode } from "../wire/code.js";
import { encodeEmpty, encodeMessage, MESSAGE_TYPE, type MessageType } from "../wire/message.js";
import { OPTION } from "../wire/option-registry.js";
import type { EndpointCore } from "./core.js";
import type { ObservationEnd } from "./endpoint-output.js";
import type { IncomingRequest } from "./incoming-request.js";
import type { ResponseMessage } from "./messages.js";
import { OBSERVE_SEQUENCE_RANGE } from "./observe-freshness.js";
import { type Peer, tokenKey } from "./peer.js";
import type { TransmissionOwner, Transmitter } from "./transmitter.js";

/**
 * The server half of an endpoint: responses to requests of peers, piggybacked or separate (RFC 7252 §5.2), and the
 * notifications of their observations (RFC 7641 §4).
 */
export class Responder {
  readonly #core: EndpointCore;
  readonly #transmitter: Transmitter;
  /** Confirmable requests handed out and not yet looked at by `nextTimeout`. */
  readonly #handedOut: IncomingRequest[] = [];
  /** Those still unanswered, in the order in which their Acknowledgement is due. */
  #unanswered: IncomingRequest[] = [];
  #observations = 0;

  constructor(core: EndpointCore, transmitter: Transmitter) {
    this.#core = core;
    this.#transmitter = transmitter;
  }

  get observations(): number {
    return this.#observations;
  }

  handleRequest(incoming: IncomingRequest): void {
    const { peer, options } = incoming;
    const previous = peer.observed?.get(tokenKey(incoming.token));
    if (previous !== undefined && options.observe === 1) this.endObservation(previous, "cancelled");
    if (incoming.isConfirmable) this.#handedOut.push(incoming);
    this.#core.emit({ type: "request", incoming });
  }

  /** The first answer counts; more, or one after the peer closed, are ignored. */
  respond(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    if (incoming.progress === "answered" || incoming.peer.isClosed) return;
    // RFC 7641 §4.2: without an Observe option there is no observation; an earlier one with this token is over.
    const previous = incoming.isObserve ? incoming.peer.observed?.get(tokenKey(incoming.token)) : undefined;
    if (previous !== undefined) this.endObservation(previous, "replaced");
    this.#answer(incoming, response, now);
  }

  /**
   * Answers a request with Observe 0 and keeps its token for `notify`. Returns whether there is an observation now: not
   * when the response is an error, or a limit is reached; then it is answered as a plain request.
   */
  respondObserved(incoming: IncomingRequest, response: ResponseMessage, now: number): boolean {
    const { peer } = incoming;
    if (incoming.progress === "answered" || peer.isClosed) return false;
    const previous = peer.observed?.get(tokenKey(incoming.token));
    const hasRoom =
      previous !== undefined ||
      ((peer.observed?.size ?? 0) < this.#core.limits.maxObservationsPerPeer &&
        this.#observations < this.#core.limits.maxObservations);
    if (!incoming.isObserve || !isSuccessCode(response.code) || !hasRoom) {
      this.respond(incoming, response, now);
      return false;
    }
    if (previous !== undefined) this.endObservation(previous, "replaced");
    const observed = new ObservedRequest(this, incoming, previous?.sequence ?? 0, now);
    peer.observed ??= new Map();
    peer.observed.set(tokenKey(incoming.token), observed);
    this.#observations++;
    this.#answer(incoming, withSequence(response, observed), now);
    return true;
  }

  /** Sends a notification. An error response ends the observation. Without one it does nothing. */
  notify(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    const observed = incoming.peer.observed?.get(tokenKey(incoming.token));
    if (observed === undefined || observed.incoming !== incoming) return;
    if (!isSuccessCode(response.code)) {
      this.endObservation(observed, "error-response");
      this.#sendConfirmable(observed, response, now);
      return;
    }
    if (observed.inFlight) {
      // RFC 7641 §4.5.2: the newer state takes the older one's place at its next transmission or acknowledgement.
      observed.superseding = withSequence(response, observed);
      return;
    }
    const numbered = withSequence(response, observed);
    const isCheckDue = now - observed.confirmedAt >= CONFIRMABLE_NOTIFICATION_INTERVAL_MS;
    if (incoming.isConfirmable || isCheckDue) {
      this.#sendConfirmable(observed, numbered, now);
    } else {
      const { peer } = incoming;
      observed.lastMessageId = peer.takeMessageId();
      this.#core.emit({
        type: "datagram",
        peer,
        bytes: encode(incoming, MESSAGE_TYPE.NonConfirmable, observed.lastMessageId, numbered),
      });
    }
  }

  /** A Reset to a message that no transmission waits for: the answer to a Non-confirmable notification. */
  handleReset(peer: Peer, messageId: number): void {
    for (const observed of peer.observed?.values() ?? []) {
      if (observed.lastMessageId === messageId) return this.endObservation(observed, "reset");
    }
  }

  endObservation(observed: ObservedRequest, cause: ObservationEnd): void {
    const { incoming } = observed;
    const { peer } = incoming;
    if (peer.observed?.get(tokenKey(incoming.token)) !== observed) return;
    peer.observed.delete(tokenKey(incoming.token));
    if (peer.observed.size === 0) peer.observed = undefined;
    this.#observations--;
    if (observed.inFlight) this.#transmitter.finish(peer, observed.lastMessageId, observed);
    observed.superseding = undefined;
    this.#core.emit({ type: "observation-ended", incoming, cause });
  }

  acknowledged(observed: ObservedRequest, now: number): void {
    observed.inFlight = false;
    observed.confirmedAt = now;
    const next = observed.superseding;
    observed.superseding = undefined;
    if (next !== undefined && observed.incoming.peer.observed?.get(tokenKey(observed.incoming.token)) === observed) {
      this.#sendConfirmable(observed, next, now);
    }
  }

  closePeer(peer: Peer): void {
    for (const observed of peer.observed?.values() ?? []) this.endObservation(observed, "peer-closed");
  }

  nextTimeout(): number | undefined {
    for (const incoming of this.#handedOut) if (incoming.progress === "received") this.#unanswered.push(incoming);
    this.#handedOut.length = 0;
    let first = this.#unanswered[0];
    if (first !== undefined && first.progress !== "received") {
      this.#unanswered = this.#unanswered.filter((incoming) => incoming.progress === "received");
      first = this.#unanswered[0];
    }
    return first === undefined ? undefined : first.receivedAt + this.#core.parameters.separateResponseDelayMs;
  }

  handleTimeout(now: number): void {
    const latest = now - this.#core.parameters.separateResponseDelayMs;
    while (this.nextTimeout() !== undefined) {
      const first = this.#unanswered[0];
      if (first === undefined || first.receivedAt > latest) return;
      this.#unanswered.shift();
      if (first.peer.isClosed) continue;
      first.progress = "acknowledged";
      this.#reply(first, encodeEmpty(MESSAGE_TYPE.Acknowledgement, first.messageId));
    }
  }

  #answer(incoming: IncomingRequest, response: ResponseMessage, now: number): void {
    const { peer } = incoming;
    const isPiggybacked = incoming.isConfirmable && incoming.progress === "received";
    const isSeparate = incoming.isConfirmable && incoming.progress === "acknowledged";
    incoming.progress = "answered";
    if (isPiggybacked) {
      this.#reply(incoming, encode(incoming, MESSAGE_TYPE.Acknowledgement, incoming.messageId, response));
    } else if (isSeparate) {
      const messageId = peer.takeMessageId();
      this.#transmitter.send(
        peer,
        messageId,
        encode(incoming, MESSAGE_TYPE.Confirmable, messageId, response),
        SEPARATE_RESPONSE,
        now,
      );
    } else {
      const messageId = peer.takeMessageId();
      this.#core.emit({
        type: "datagram",
        peer,
        bytes: encode(incoming, MESSAGE_TYPE.NonConfirmable, messageId, response),
      });
    }
  }

  #reply(incoming: IncomingRequest, bytes: Uint8Array): void {
    incoming.recent.reply = bytes;
    this.#core.emit({ type: "datagram", peer: incoming.peer, bytes });
  }

  #sendConfirmable(observed: ObservedRequest, response: ResponseMessage, now: number): void {
    const { incoming } = observed;
    const messageId = incoming.peer.takeMessageId();
    observed.lastMessageId = messageId;
    observed.inFlight = true;
    this.#transmitter.send(
      incoming.peer,
      messageId,
      encode(incoming, MESSAGE_TYPE.Confirmable, messageId, response),
      observed,
      now,
    );
  }
}

/** A request with Observe 0 that was accepted. */
export class ObservedRequest implements TransmissionOwner {
  readonly incoming: IncomingRequest;
  sequence: number;
  lastMessageId = -1;
  inFlight = false;
  superseding: ResponseMessage | undefined;
  confirmedAt: number;
  readonly #responder: Responder;

  constructor(responder: Responder, incoming: IncomingRequest, sequence: number, now: number) {
    this.#responder = responder;
    this.incoming = incoming;
    this.sequence = sequence;
    this.confirmedAt = now;
  }

  onAcknowledgement(now: number): void {
    this.#responder.acknowledged(this, now);
  }

  onReset(): void {
    this.inFlight = false;
    this.#responder.endObservation(this, "reset");
  }

  onTransmissionTimeout(): void {
    this.inFlight = false;
    this.#responder.endObservation(this, "timeout");
  }

  onRetransmission(): { readonly messageId: number; readonly bytes: Uint8Array } | undefined {
    const next = this.superseding;
    if (next === undefined) return undefined;
    this.superseding = undefined;
    const messageId = this.incoming.peer.takeMessageId();
    this.lastMessageId = messageId;
    return { messageId, bytes: encode(this.incoming, MESSAGE_TYPE.Confirmable, messageId, next) };
  }
}

function withSequence(response: ResponseMessage, observed: ObservedRequest): ResponseMessage {
  observed.sequence = (observed.sequence + 1) % OBSERVE_SEQUENCE_RANGE;
  return { ...response, options: response.options.with(OPTION.Observe, observed.sequence) };
}

function encode(
  incoming: IncomingRequest,
  type: MessageType,
  messageId: number,
  response: ResponseMessage,
): Uint8Array {
  const { code, options, payload } = response;
  return encodeMessage({ type, code, messageId, token: incoming.token, options, payload });
}

/** RFC 7252 §5.2.2: a lost separate response is the client's to ask for again. */
const SEPARATE_RESPONSE: TransmissionOwner = {
  onAcknowledgement: () => undefined,
  onReset: () => undefined,
  onTransmissionTimeout: () => undefined,
};

/** RFC 7641 §4.5: at least every 24 hours one notification is Confirmable. */
export const CONFIRMABLE_NOTIFICATION_INTERVAL_MS: number = 24 * 3600 * 1000;
