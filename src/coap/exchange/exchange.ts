import { CoapError } from "../errors.js";
import { CODE } from "../wire/code.js";
import { Options } from "../wire/options.js";
import type { Interaction } from "./interaction-queue.js";
import { NO_PAYLOAD, type RequestMessage } from "./messages.js";
import { type Peer, tokenKey } from "./peer.js";
import type { Requester } from "./requester.js";
import type { Timed, Timer } from "./timer-heap.js";
import type { TransmissionOwner } from "./transmitter.js";

/** One request of ours and what comes of it. */
export class Exchange implements TransmissionOwner, Timed, Interaction {
  readonly peer: Peer;
  readonly request: RequestMessage;
  readonly token: Uint8Array;
  readonly key: string;
  state: "queued" | "awaiting" | "observing" | "cancelling" | "ended" = "queued";
  messageId = -1;
  holdsPlace = false;
  timer: Timer | undefined;
  /** The newest notification's Observe value and time of arrival. */
  newest: { readonly sequence: number; readonly at: number } | undefined;
  /** Whether the observation is being asked for anew. */
  isRefreshing = false;
  readonly #requester: Requester;

  constructor(requester: Requester, peer: Peer, request: RequestMessage, token: Uint8Array) {
    this.#requester = requester;
    this.peer = peer;
    this.request = request;
    this.token = token;
    this.key = tokenKey(token);
  }

  start(now: number): void {
    this.#requester.start(this, now);
  }

  onAcknowledgement(now: number): void {
    this.#requester.awaitSeparateResponse(this, now);
  }

  onReset(now: number): void {
    this.#requester.handleRejection(this, now);
  }

  onTransmissionTimeout(now: number): void {
    this.#requester.handleFailure(this, new CoapError("COAP_TIMEOUT", "the peer did not acknowledge the request"), now);
  }
}

/** A GET with no payload, the commonest request. */
export function getRequest(options: Options = Options.none): RequestMessage {
  return { code: CODE.GET, options, payload: NO_PAYLOAD };
}
