import {
  type Exchange,
  OPTION,
  type Options,
  type Peer,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import type { StreamedBody } from "./body-reader.js";
import type { CoapEndpoint } from "./coap-endpoint.js";
import type { CoapStream, PeerIdentity } from "./coap-stream.js";
import { DtlsSession } from "./dtls-session.js";
import type { PutOff } from "./put-off.js";
import { NO_SLOT, type Slotted } from "./slot-table.js";
import type { SocketAddress } from "./udp-socket.js";

/**
 * One peer that CoAP is spoken with: a DTLS session, a TCP or TLS connection, or a remote address on plain UDP. Either side
 * may send requests.
 */
export class CoapConnection implements Slotted {
  /** For the endpoint. */
  slot: number = NO_SLOT;
  /** Absent on plain UDP. */
  readonly transport: DtlsSession | CoapStream | undefined;
  /** For the endpoint. */
  readonly peer: Peer;
  /** For the endpoint: hands a message to the transport. */
  readonly transmit: (bytes: Uint8Array) => void;
  /** For the endpoint: whether the peer has shown that it receives at its address. DTLS does that by itself. */
  isVerified: boolean;
  /** For {@link PlainPeers}: whether it was heard of since it was looked at last. */
  wasUsed = false;
  /** Called for all that comes from the peer; on DTLS and TLS it is authentic. */
  onHeard: (() => void) | undefined;
  /** For the endpoint: requests of the peer that are not answered yet. */
  unanswered = 0;
  /** For the endpoint: called when one of them is, later than at once. */
  onAnswered: (() => void) | undefined;
  /** For the endpoint: whether the peer has Q-Block (RFC 9177), where that is known. */
  hasQBlock: boolean | undefined;
  /** For the endpoint: what the peer does not want to be asked for a while. */
  putOff: PutOff | undefined;
  /** For the endpoint: whether the peer asked to end the connection when they are. */
  isReleased = false;
  readonly #endpoint: CoapEndpoint;
  readonly #remoteAddress: SocketAddress;

  constructor(
    endpoint: CoapEndpoint,
    peer: Peer,
    remoteAddress: SocketAddress,
    transport: DtlsSession | CoapStream | undefined,
    transmit: (bytes: Uint8Array) => void,
  ) {
    this.#endpoint = endpoint;
    this.peer = peer;
    this.#remoteAddress = remoteAddress;
    this.transport = transport;
    this.isVerified = transport !== undefined;
    this.transmit = transmit;
  }

  /** Where the peer is now: a session with a connection identifier may move. */
  get remoteAddress(): SocketAddress {
    return this.transport?.remoteAddress ?? this.#remoteAddress;
  }

  get isSecure(): boolean {
    return this.transport instanceof DtlsSession || this.transport?.isSecure === true;
  }

  /** What DTLS or TLS established about the peer. */
  get peerInfo(): PeerIdentity | undefined {
    return this.transport?.peer;
  }

  get isClosed(): boolean {
    return this.peer.isClosed;
  }

  /**
   * Sends a request, in blocks where it or its response is long, and gives the whole response.
   *
   * @throws CoapError COAP_TIMEOUT, COAP_RESET, COAP_PEER_CLOSED, COAP_CANCELLED (by `signal`), COAP_LIMIT_REACHED,
   * COAP_BAD_OPTION, COAP_BLOCK_MISMATCH, COAP_BODY_TOO_LARGE, COAP_INVALID_MESSAGE.
   */
  request(request: RequestMessage, options: RequestOptions = {}): Promise<ResponseMessage> {
    return this.#endpoint.request(this, request, options);
  }

  /**
   * Sends a request whose bodies are never whole in memory: `body` is read as its blocks are sent, and the response's body as
   * the caller reads it. The request's own payload is not looked at.
   *
   * @throws as {@link request} does; COAP_BLOCK_MISMATCH also where the peer wants what was sent once more, which a stream
   * cannot give. Later blocks fail the reading of the response's body so.
   */
  stream(
    request: RequestMessage,
    body: StreamedBody | undefined,
    options: RequestOptions = {},
  ): Promise<StreamedResponse> {
    return this.#endpoint.stream(this, request, body, options);
  }

  /** Observes a resource (RFC 7641). Fails as {@link request} does; an error response makes an observation that has ended. */
  observe(request: RequestMessage, options: RequestOptions = {}): Promise<Observation> {
    const observing = { ...request, options: request.options.with(OPTION.Observe, 0) };
    return this.#endpoint.observe(this, observing, options);
  }

  /** Fulfilled when the peer shows that it lives (RFC 7252 §4.3). Fails as {@link request} does. */
  async ping(options: RequestOptions = {}): Promise<void> {
    await this.#endpoint.ping(this, options);
  }

  /** Its peer speaks on another connection now: where there is no room for others, this one makes way. */
  supersede(): void {
    if (this.transport instanceof DtlsSession) this.transport.supersede();
  }

  /** Sends again at once what the peer has not acknowledged; gives how many messages that is. See the CoAP layer's endpoint. */
  retransmit(): number {
    return this.#endpoint.retransmit(this);
  }

  /** Ends all exchanges with this peer, and its DTLS session or TCP connection. */
  async close(): Promise<void> {
    this.#endpoint.release(this);
    this.#endpoint.closeConnection(this);
    await this.transport?.close();
  }
}

/** A response whose body is read as it comes; each block is asked for when the one before was taken. */
export interface StreamedResponse {
  readonly code: number;
  readonly options: Options;
  /** To be read once. What is not read is not asked for. */
  readonly body: StreamedBody;
  /** Nothing is left to be asked for: what has come is all of it. */
  readonly isWhole: boolean;
}

export interface RequestOptions {
  /** Ends the request with COAP_CANCELLED. */
  readonly signal?: AbortSignal;
  /** Default 1024: the largest block of the request's body; a power of two from 16. */
  readonly blockBytes?: number;
  /** Default: the server's choice. The largest block of the response's body; a power of two from 16. */
  readonly responseBlockBytes?: number;
  /** Default 1 MiB: a longer response body fails with COAP_BODY_TOO_LARGE. */
  readonly maxBodyBytes?: number;
  /**
   * Default false. true: bodies go by Q-Block (RFC 9177) where the peer has it and the transport is datagrams: in rows of
   * Non-confirmable messages, of which only what is lost is sent again. For networks that lose much, or one way more.
   */
  readonly robust?: boolean;
  /** Default true. false: one message each way, with its block options as they are, for a proxy. */
  readonly isBlockwise?: boolean;
  /**
   * Default false: what the peer answered by 4.29 Too Many Requests (RFC 8516) is answered so again, and not sent, until that
   * answer's Max-Age has passed. true: it is sent all the same.
   */
  readonly insists?: boolean;
  /** Handed to `onSend` with each message of the request. */
  readonly context?: unknown;
}

/** An observation of ours: its first response, then the newest state each time that it changes. */
export class Observation implements AsyncIterable<ResponseMessage> {
  readonly first: ResponseMessage;
  readonly #queue: NotificationQueue;
  readonly #cancel: () => void;

  constructor(first: ResponseMessage, queue: NotificationQueue, cancel: () => void) {
    this.first = first;
    this.#queue = queue;
    this.#cancel = cancel;
  }

  /** Notifications after the first response, until the observation ends; throws the CoapError that ended it. */
  [Symbol.asyncIterator](): AsyncIterator<ResponseMessage> {
    return {
      next: () => this.#queue.next(),
      return: () => {
        this.cancel();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }

  /** Tells the peer that no more notifications are wanted. */
  cancel(): void {
    this.#cancel();
    this.#queue.end();
  }
}

/** Keeps only the newest state that was not read yet, as Observe itself promises no more (RFC 7641 §1.3). */
export class NotificationQueue {
  #newest: ResponseMessage | undefined;
  #error: Error | undefined;
  #isEnded = false;
  #waiting: { resolve(result: IteratorResult<ResponseMessage>): void; reject(error: Error): void } | undefined;

  push(response: ResponseMessage): void {
    if (this.#isEnded) return;
    this.#newest = response;
    this.#wake();
  }

  end(error?: Error): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#error = error;
    this.#wake();
  }

  next(): Promise<IteratorResult<ResponseMessage>> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#wake();
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    const newest = this.#newest;
    if (newest !== undefined) {
      this.#newest = undefined;
      this.#waiting = undefined;
      waiting.resolve({ done: false, value: newest });
    } else if (this.#isEnded) {
      this.#waiting = undefined;
      if (this.#error === undefined) waiting.resolve({ done: true, value: undefined });
      else waiting.reject(this.#error);
    }
  }
}

/** What an endpoint keeps of one exchange of ours. */
export interface PendingExchange {
  readonly exchange: Exchange;
  resolve(response: ResponseMessage): void;
  reject(error: Error): void;
  notifications: NotificationQueue | undefined;
  /** Whether a notification may be handed on. */
  isAccepted: ((notification: ResponseMessage) => boolean) | undefined;
}
