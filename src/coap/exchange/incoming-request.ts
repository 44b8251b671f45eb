import { CODE } from "../wire/code.js";
import { type Allocate, encodeResponse, type Message, type MessageType, ReceivedMessage } from "../wire/message.js";
import type { Options } from "../wire/options.js";
import { NO_PAYLOAD, type ResponseMessage } from "./messages.js";
import { type Peer, tokenKey } from "./peer.js";
import type { RecentMessage } from "./recent-messages.js";

/**
 * A request that a peer sent, until it is answered. Token, options and payload are views of the datagram that carried it.
 */
export class IncomingRequest {
  readonly peer: Peer;
  readonly code: number;
  readonly options: Options;
  readonly payload: Uint8Array;
  readonly messageId: number;
  readonly isConfirmable: boolean;
  /** When it arrived, ms. */
  readonly receivedAt: number;

  /** The endpoint's own: whether an Acknowledgement or a response went out. */
  progress: "received" | "acknowledged" | "answered" = "received";
  /** The endpoint's own: what a duplicate is answered with. */
  readonly recent: RecentMessage;
  readonly #message: Message;
  #tokenKey: string | undefined;

  constructor(
    peer: Peer,
    message: Message,
    options: Options,
    isConfirmable: boolean,
    recent: RecentMessage,
    now: number,
  ) {
    this.peer = peer;
    this.code = message.code;
    this.options = options;
    this.payload = hasPayload(message.code) ? message.payload : NO_PAYLOAD;
    this.#message = message;
    this.messageId = message.messageId;
    this.isConfirmable = isConfirmable;
    this.recent = recent;
    this.receivedAt = now;
  }

  get token(): Uint8Array {
    return this.#message.token;
  }

  /** The endpoint's own: the token as the key of a map. */
  get tokenKey(): string {
    return (this.#tokenKey ??= tokenKey(this.token));
  }

  /** The endpoint's own: the bytes of a response. */
  encode(type: MessageType, messageId: number, response: ResponseMessage, allocate: Allocate): Uint8Array {
    const message = this.#message;
    if (message instanceof ReceivedMessage) return encodeResponse(message, type, messageId, response, allocate);
    const { code, options, payload } = response;
    return this.peer.encode({ type, code, messageId, token: message.token, options, payload });
  }

  /** Whether the client asks to be told of changes: a GET or FETCH with Observe 0 (RFC 7641 §2, RFC 8132 §2.4). */
  get isObserve(): boolean {
    return isObservable(this.code) && this.options.observe === 0;
  }
}

/** RFC 7252 §5.5: what a method has no payload for is ignored. */
function hasPayload(code: number): boolean {
  return code !== CODE.GET && code !== CODE.DELETE;
}

/** RFC 7641 §2, RFC 8132 §2.4: Observe has a meaning in GET and FETCH only. */
export function isObservable(code: number): boolean {
  return code === CODE.GET || code === CODE.FETCH;
}
