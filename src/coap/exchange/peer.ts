import type { IncomingRequest } from "./incoming-request.js";
import type { Interaction } from "./interaction-queue.js";
import type { RecentOfPeer } from "./recent-messages.js";
import type { Exchange } from "./exchange.js";
import type { RoundTripEstimator } from "./retransmission-timeouts.js";
import type { ObservedRequest } from "./responder.js";
import type { Capabilities } from "../stream/signals.js";
import { encodeStreamMessage } from "../stream/stream-message.js";
import { encodeMessage, type Message } from "../wire/message.js";
import type { Transmission } from "./transmitter.js";

/**
 * One peer of an endpoint: a DTLS association, or a remote address on plain UDP. messageIds, tokens and the memory of
 * duplicates belong to it, so that a new association starts afresh. Its fields are the endpoint's; all maps are made when
 * they are first needed, since most peers are idle.
 */
export class Peer {
  /** Its user's; the endpoint does not look at it. */
  owner: unknown;
  isClosed = false;
  nextMessageId: number;
  /** Where its tokens count, which only those may that nobody else can answer: how many were given out. */
  tokensGiven: number | undefined;
  /** Of the newest notification to this peer. One for all its observations, so that it grows even where a token is used again. */
  observeSequence = 0;
  /** Interactions that count for NSTART. */
  outstanding = 0;
  queue: Interaction[] | undefined;
  /** Its round-trip times, where they are estimated. */
  roundTrips: RoundTripEstimator | undefined;
  /** Non-confirmable requests of ours since the peer was heard last. */
  unheardRequests = 0;
  /** Our exchanges that await a response or are observations, by token. */
  exchanges: Map<string, Exchange> | undefined;
  /** Our Confirmable messages that await an Acknowledgement, by messageId. */
  transmissions: Map<number, Transmission> | undefined;
  /** Messages received of late. */
  recent: RecentOfPeer | undefined;
  /** Observations that the peer holds on us, by token. */
  observed: Map<string, ObservedRequest> | undefined;

  /** What is known of the peer of a reliable transport (RFC 8323); absent where messages are datagrams. */
  stream: StreamState | undefined;

  constructor(firstMessageId: number, stream?: StreamState) {
    this.nextMessageId = firstMessageId;
    this.stream = stream;
  }

  /** The bytes of a message for this peer. */
  encode(message: Message): Uint8Array {
    return this.stream === undefined ? encodeMessage(message) : encodeStreamMessage(message);
  }

  /**
   * Differs from RFC 7252 §4.4: past 65,536 messages within EXCHANGE_LIFETIME to one peer the numbers come around early,
   * since waiting would hold such a peer to 265 messages/s. None that is still in transmission is given out.
   */
  takeMessageId(): number {
    let messageId = this.nextMessageId;
    while (this.transmissions?.has(messageId) === true) messageId = (messageId + 1) & 0xffff;
    this.nextMessageId = (messageId + 1) & 0xffff;
    return messageId;
  }
}

export interface StreamState {
  capabilities: Capabilities;
  /** Whether its CSM has come, which is to be its first message. */
  isSettled: boolean;
  /** Its requests that are not answered yet, counted as they came. */
  readonly unanswered: Map<IncomingRequest, number>;
  received: number;
  /** Pongs that are owed when all requests up to that one are answered (RFC 8323 §5.4.1). */
  custodies: { readonly token: Uint8Array; readonly upTo: number }[];
}

/** A token as the key of a map. */
export function tokenKey(token: Uint8Array): string {
  let key = "";
  for (let index = 0; index < token.length; index++) key += String.fromCharCode(token[index] ?? 0);
  return key;
}
