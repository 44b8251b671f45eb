import {
  BlockwiseServer,
  CODE,
  DEFAULT_BLOCKWISE_SERVER_OPTIONS,
  DEFAULT_ENDPOINT_LIMITS,
  type Endpoint,
  emptyResponse,
  type IncomingRequest,
  isSuccessCode,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { AmplificationGuard } from "./amplification-guard.js";
import type { CoapConnection } from "./coap-connection.js";
import type { Answer, CoapEndpointOptions, ObservableResponse } from "./coap-endpoint-options.js";
import { DEFAULT_MAX_PLAIN_PEERS } from "./plain-peers.js";
import { HandlerObservation } from "./handler-observation.js";
import { QBlockService } from "./q-block-service.js";
import { StreamedBodies } from "./streamed-bodies.js";
import { streamCutBytes } from "./transfer-options.js";
import type { TurnClock } from "./turn-clock.js";
import { UnprovenObservers } from "./unproven-observers.js";

/** The requests of peers, from a message's arrival to its response, and their observations: what {@link OutgoingRequests} is to ours. */
export class IncomingRequests {
  readonly #endpoint: Endpoint;
  readonly #options: CoapEndpointOptions;
  readonly #clock: TurnClock;
  readonly #pump: () => void;
  readonly #closeReleased: (connection: CoapConnection) => void;
  readonly #blockwise: BlockwiseServer<CoapConnection>;
  readonly #streamed: StreamedBodies;
  readonly #qBlock: QBlockService | undefined;
  readonly #amplification: AmplificationGuard;
  readonly #observers = new Map<IncomingRequest, HandlerObservation>();
  readonly #strangers: UnprovenObservers;
  readonly #maxUnanswered: number;
  readonly #maxUnansweredPerPeer: number;
  #unanswered = 0;

  constructor(endpoint: Endpoint, options: CoapEndpointOptions, surroundings: IncomingSurroundings) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#maxUnanswered = options.maxUnanswered ?? DEFAULT_MAX_UNANSWERED;
    this.#maxUnansweredPerPeer = options.maxUnansweredPerPeer ?? DEFAULT_MAX_UNANSWERED_PER_PEER;
    this.#strangers = new UnprovenObservers(
      (options.maxPlainPeers ?? DEFAULT_MAX_PLAIN_PEERS) / 2,
      (options.limits?.maxObservations ?? DEFAULT_ENDPOINT_LIMITS.maxObservations) / 2,
    );
    this.#clock = surroundings.clock;
    this.#pump = surroundings.pump;
    this.#closeReleased = surroundings.closeReleased;
    this.#amplification = new AmplificationGuard(options.maxAmplification ?? DEFAULT_MAX_AMPLIFICATION);
    this.#blockwise = new BlockwiseServer(options.blockwise, (connection) => !this.#isTrusted(connection));
    const blockBytes = options.blockwise?.blockBytes ?? DEFAULT_BLOCKWISE_SERVER_OPTIONS.blockBytes;
    this.#streamed = new StreamedBodies(
      options,
      (connection, message, response) => this.#cutBytes(connection, message, response) ?? blockBytes,
    );
    const { qBlock } = surroundings;
    this.#qBlock = qBlock === undefined ? undefined : new QBlockService(endpoint, options, qBlock, this.#pump);
  }

  /** Requests that `onRequest` has not answered yet. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** What is kept of bodies at this moment. */
  get bufferedBytes(): number {
    return this.#blockwise.bufferedBytes + this.#streamed.bufferedBytes + (this.#qBlock?.bufferedBytes ?? 0);
  }

  /** Whether {@link nextTimeout} is to be asked. */
  get hasTimeouts(): boolean {
    return this.#streamed.isActive || this.#qBlock !== undefined;
  }

  nextTimeout(): number {
    return Math.min(this.#streamed.nextTimeout() ?? Infinity, this.#qBlock?.nextTimeout() ?? Infinity);
  }

  handleTimeout(now: number): void {
    this.#blockwise.sweep(now);
    this.#streamed.sweep(now);
    this.#qBlock?.handleTimeout(now);
  }

  closePeer(connection: CoapConnection): void {
    this.#blockwise.closePeer(connection);
    this.#streamed.closePeer(connection);
    this.#qBlock?.closePeer(connection);
  }

  endObservation(incoming: IncomingRequest): void {
    this.#observers.get(incoming)?.stop();
    this.#observers.delete(incoming);
    this.#strangers.ended(incoming.peer);
  }

  /** Answers one message of a request: by `onMessage`, blocks and `onRequest`. */
  answer(incoming: IncomingRequest, connection: CoapConnection): void {
    if (!connection.isVerified) {
      connection.isVerified = this.#amplification.isProof(incoming, connection.remoteAddress, this.#clock.now());
      if (connection.isVerified) this.#strangers.proved(connection.peer);
    }
    if (!connection.isVerified && this.#options.proxy?.needsProvenAddress === true)
      return this.#demandProof(incoming, connection);
    if (this.#qBlock !== undefined && connection.peer.stream === undefined && QBlockService.concerns(incoming)) {
      return this.#isTrusted(connection)
        ? this.#qBlock.receive(incoming, connection)
        : this.#demandProof(incoming, connection);
    }
    const busy = this.#refusalOf(connection);
    if (busy !== undefined) {
      this.#endpoint.respondOnce(incoming, busy, this.#clock.now());
      return this.#pump();
    }
    this.#unanswered++;
    connection.unanswered++;
    let answer: Answer;
    try {
      answer =
        this.#options.onMessage === undefined
          ? this.#serve(incoming, connection, undefined)
          : this.#handOn(incoming, connection, this.#options.onMessage);
    } catch (error) {
      return this.#fail(incoming, connection, error);
    }
    if (answer instanceof Promise) this.#await(incoming, connection, answer);
    else this.#finish(incoming, connection, answer);
  }

  // Closures have methods of their own: V8 makes room for what they hold when their method is called, for each request.

  #handOn(
    incoming: IncomingRequest,
    connection: CoapConnection,
    onMessage: NonNullable<CoapEndpointOptions["onMessage"]>,
  ): Answer {
    return onMessage(incoming, connection, (message, context) => this.#serve(message, connection, context));
  }

  #await(incoming: IncomingRequest, connection: CoapConnection, answer: Promise<ObservableResponse>): void {
    void answer
      .then(
        (response) => this.#finish(incoming, connection, response),
        (error: unknown) => this.#fail(incoming, connection, error),
      )
      .then(connection.onAnswered);
  }

  #serve(message: RequestMessage, connection: CoapConnection, context: unknown): Answer {
    const now = this.#clock.now();
    const principal = this.#options.principalOf?.(context) ?? "";
    if (this.#streamed.isActive) {
      const streamed = this.#streamed.serve(message, connection, context, now, principal);
      if (streamed !== undefined) return streamed;
    }
    const input = this.#blockwise.receive(connection, message, now, principal, this.#cutBytes(connection, message));
    if (input.type === "answer") return input.response;
    const { onRequest } = this.#options;
    const answer =
      onRequest === undefined ? emptyResponse(CODE.NotFound) : onRequest(input.request, connection, context);
    return answer instanceof Promise
      ? this.#cutLater(connection, message, answer, principal)
      : this.#cutAny(connection, message, answer, principal);
  }

  #cutLater(
    connection: CoapConnection,
    message: RequestMessage,
    answer: Promise<ObservableResponse>,
    principal: string,
  ): Answer {
    return answer.then((response) => this.#cutAny(connection, message, response, principal));
  }

  #cutAny(
    connection: CoapConnection,
    message: RequestMessage,
    response: ObservableResponse,
    principal: string,
  ): Answer {
    const { body } = response;
    return body === undefined
      ? this.#cut(connection, message, response, principal)
      : this.#streamed.cut(response, body, message, connection, principal);
  }

  /** The first block of a response, or all of it; it stays observable where it was. */
  #cut(
    connection: CoapConnection,
    message: RequestMessage,
    response: ObservableResponse,
    principal = "",
    cutBytes: number | undefined = this.#cutBytes(connection, message, response),
  ): ObservableResponse {
    const first = this.#blockwise.send(connection, message, response, this.#clock.now(), principal, cutBytes);
    return response.observe === undefined ? first : { ...first, observe: response.observe, principal };
  }

  /** How long a block for this peer may be; undefined: as long as the blocks of datagrams are. */
  #cutBytes(
    connection: CoapConnection,
    message: RequestMessage,
    response: ResponseMessage = EMPTY_CONTENT,
  ): number | undefined {
    const capabilities = connection.peer.stream?.capabilities;
    if (capabilities !== undefined)
      return streamCutBytes(capabilities, response.options.encodedBytes, response.payload.length);
    return connection.isVerified ? undefined : this.#amplification.maxBlockBytes(message);
  }

  #finish(incoming: IncomingRequest, connection: CoapConnection, response: ObservableResponse): void {
    this.#leave(connection);
    try {
      this.#respond(incoming, connection, response);
    } catch (error) {
      this.#answerFault(incoming, connection, error);
    }
  }

  #fail(incoming: IncomingRequest, connection: CoapConnection, error: unknown): void {
    this.#leave(connection);
    this.#answerFault(incoming, connection, error);
  }

  /** A request has its answer: another one may come in its place. */
  #leave(connection: CoapConnection): void {
    connection.unanswered--;
    this.#unanswered--;
  }

  #respond(incoming: IncomingRequest, connection: CoapConnection, response: ObservableResponse): void {
    const now = this.#clock.now();
    if (!connection.isVerified && this.#amplification.needsProof(incoming, response)) {
      this.#demandProof(incoming, connection);
      // What began for an observation ends again.
      this.#begin(incoming, connection, response)?.stop();
      return;
    }
    const isTrusted = this.#isTrusted(connection);
    const allowance = isTrusted ? Infinity : this.#amplification.allowedBytes(incoming);
    const isAsked = incoming.isObserve && isSuccessCode(response.code);
    const observation = isAsked ? this.#begin(incoming, connection, response) : undefined;
    if (observation === undefined || (!isTrusted && !this.#strangers.mayObserve(incoming))) {
      this.#endpoint.respond(incoming, response, now, allowance);
      observation?.stop();
    } else if (this.#endpoint.respondObserved(incoming, response, now, allowance)) {
      if (!isTrusted) this.#strangers.began(incoming.peer);
      this.#observers.set(incoming, observation);
      observation.answered();
    } else {
      observation.stop();
    }
    this.#pump();
    if (connection.isReleased) this.#closeReleased(connection);
  }

  /** Begins what the handler offers to observe; undefined where that is nothing. */
  #begin(
    incoming: IncomingRequest,
    connection: CoapConnection,
    response: ObservableResponse,
  ): HandlerObservation | undefined {
    if (response.observe === undefined) return undefined;
    const observation = new HandlerObservation((error) => this.#options.onFault?.(error, incoming, connection));
    return observation.begin(response.observe, this.#sender(incoming, connection, response)) ? observation : undefined;
  }

  #sender(
    incoming: IncomingRequest,
    connection: CoapConnection,
    response: ObservableResponse,
  ): (state: ResponseMessage) => void {
    return (state) => {
      const message = response.isMessage === true ? state : this.#notified(incoming, connection, state, response);
      this.#endpoint.notify(incoming, response.finish?.(message) ?? message, this.#clock.now());
      this.#pump();
    };
  }

  /** What cannot be sent to this one observer ends its observation; whoever tells of a state tells others too. */
  #notified(
    incoming: IncomingRequest,
    connection: CoapConnection,
    notification: ResponseMessage,
    { principal }: ObservableResponse,
  ): ResponseMessage {
    // RFC 7959 §2.6: a notification is no answer to the last block of what asked for it.
    const { code, options, payload } = incoming;
    const asked = options.has(OPTION.Block1) ? { code, options: options.without(OPTION.Block1), payload } : incoming;
    const cutBytes = this.#isTrusted(connection) ? undefined : this.#amplification.maxNotifiedBytes(incoming);
    try {
      return this.#cut(connection, asked, notification, principal, cutBytes);
    } catch (error) {
      this.#options.onFault?.(error, incoming, connection);
      return emptyResponse(CODE.InternalServerError);
    }
  }

  /** What a request is answered with where too many are waiting for their answers; undefined: it may join them. */
  #refusalOf(connection: CoapConnection): ResponseMessage | undefined {
    if (this.#unanswered >= this.#maxUnanswered) return emptyResponse(CODE.ServiceUnavailable, COME_AGAIN);
    const isCrowded = connection.unanswered >= this.#maxUnansweredPerPeer && connection.peer.stream === undefined;
    return isCrowded ? emptyResponse(CODE.TooManyRequests, COME_AGAIN) : undefined;
  }

  /** Whether what is sent to the peer reaches who asked for it. */
  #isTrusted(connection: CoapConnection): boolean {
    return connection.isVerified || this.#options.maxAmplification === Infinity;
  }

  #demandProof(incoming: IncomingRequest, connection: CoapConnection): void {
    const now = this.#clock.now();
    this.#endpoint.respondOnce(incoming, this.#amplification.demand(connection.remoteAddress, now), now);
    this.#pump();
  }

  #answerFault(incoming: IncomingRequest, connection: CoapConnection, error: unknown): void {
    this.#options.onFault?.(error, incoming, connection);
    this.#respond(incoming, connection, emptyResponse(CODE.InternalServerError));
  }
}

export interface IncomingSurroundings {
  readonly clock: TurnClock;
  readonly qBlock: CoapEndpointOptions["qBlock"];
  /** Carries out what the endpoint asks for. */
  pump(this: void): void;
  /** The last request before a Release is answered. */
  closeReleased(this: void, connection: CoapConnection): void;
}

const DEFAULT_MAX_AMPLIFICATION = 3;
const DEFAULT_MAX_UNANSWERED_PER_PEER = 256;
const DEFAULT_MAX_UNANSWERED = 20_000;
/** What is answered in a moment is done in a few seconds, or not at all. */
const COME_AGAIN = Options.none.with(OPTION.MaxAge, 5);
const EMPTY_CONTENT: ResponseMessage = emptyResponse(CODE.Content);
