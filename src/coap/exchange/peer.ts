import type { ObservedRequest } from "./responder.js";
import type { Exchange } from "./requester.js";
import type { Transmission } from "./transmitter.js";

/**
 * One peer of an endpoint: a DTLS association, or a remote address on plain UDP. messageIds, tokens and the memory of
 * duplicates belong to it, so that a new association starts afresh. Its fields are the endpoint's; all maps are made when
 * they are first needed, since most peers are idle.
 */
export class Peer {
  isClosed = false;
  nextMessageId: number;
  /** Interactions that count for NSTART. */
  outstanding = 0;
  queue: Exchange[] | undefined;
  /** Our exchanges that await a response or are observations, by token. */
  exchanges: Map<string, Exchange> | undefined;
  /** Our Confirmable messages that await an Acknowledgement, by messageId. */
  transmissions: Map<number, Transmission> | undefined;
  /** Messages received of late, by messageId, oldest first. */
  recent: Map<number, RecentMessage> | undefined;
  /** Observations that the peer holds on us, by token. */
  observed: Map<string, ObservedRequest> | undefined;

  constructor(firstMessageId: number) {
    this.nextMessageId = firstMessageId;
  }

  takeMessageId(): number {
    let messageId = this.nextMessageId;
    while (this.transmissions?.has(messageId) === true) messageId = (messageId + 1) & 0xffff;
    this.nextMessageId = (messageId + 1) & 0xffff;
    return messageId;
  }
}

/** A message received before, and what a duplicate of it is answered with. */
export interface RecentMessage {
  readonly expiresAt: number;
  reply: Uint8Array | undefined;
}

/** A token as the key of a map. */
export function tokenKey(token: Uint8Array): string {
  return String.fromCharCode(...token);
}
