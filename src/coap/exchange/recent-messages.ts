import { type Allocate, SHORT_MESSAGE_BYTES } from "../wire/message.js";
import type { EndpointLimits } from "./parameters.js";
import type { Peer } from "./peer.js";
import { ReplySlots } from "./reply-slots.js";

/**
 * The memory of received messages against duplicates (RFC 7252 §4.5), of all peers of an endpoint. It is bounded per peer
 * and in all, by number and by the bytes of the replies; the oldest is forgotten first.
 *
 * Every message stands in a list of all, oldest first, and in one of its peer: forgetting is always at a known place, and
 * there are no timers but one for the oldest of all. A Non-confirmable message may stay after its lifetime until the older
 * Confirmable ones are gone, but is not found any more.
 *
 * A message that makes way for one of the same peer becomes that one: what a busy peer needs is used over and over, and stays in
 * the processor's caches, where what is made anew for each message never is.
 *
 * A peer's are found by chains of their own, not by a Map: one that has grown old in V8's heap makes its next tables there, and
 * each of those that it leaves behind keeps what was in it from being collected while that is young.
 */
export class RecentMessages {
  readonly #limits: RecentLimits;
  #oldest: RecentMessage | undefined;
  #newest: RecentMessage | undefined;
  #size = 0;
  #replyBytes = 0;
  readonly #slots = new ReplySlots(SHORT_MESSAGE_BYTES);
  readonly #halfSlots = new ReplySlots(SHORT_MESSAGE_BYTES / 2);
  #sweepAt: number | undefined;

  constructor(limits: RecentLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#size;
  }

  get replyBytes(): number {
    return this.#replyBytes;
  }

  find(peer: Peer, messageId: number, now: number): RecentMessage | undefined {
    const { recent } = peer;
    if (recent === undefined) return undefined;
    let found = recent.chains[messageId & (recent.chains.length - 1)];
    while (found !== undefined && found.messageId !== messageId) found = found.next;
    return found !== undefined && found.expiresAt > now ? found : undefined;
  }

  remember(peer: Peer, messageId: number, until: number): RecentMessage {
    const expiresAt = Math.ceil(until);
    const message = this.#forgottenFor(peer) ?? recentMessage(peer, messageId, expiresAt);
    message.messageId = messageId;
    message.expiresAt = expiresAt;
    message.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = message;
    else this.#newest.newer = message;
    this.#newest = message;
    this.#size++;
    this.#sweepAt ??= expiresAt;

    const { recent } = peer;
    if (recent === undefined) {
      const chains = emptyChains(1);
      chain(chains, message);
      peer.recent = { chains, oldest: message, newest: message, size: 1 };
    } else {
      recent.newest.newerOfPeer = message;
      recent.newest = message;
      if (++recent.size > recent.chains.length) lengthen(recent);
      else chain(recent.chains, message);
    }
    if (this.#size > this.#limits.maxRecentMessages) this.#forgetOldest();
    return message;
  }

  /** What a duplicate of the message is answered with, once; a short one is copied. The oldest messages make way for it. */
  keepReply(message: RecentMessage, reply: Uint8Array): void {
    if (message.expiresAt === FORGOTTEN) return;
    this.#replyBytes += reply.length;
    message.replyBytes = reply.length;
    message.reply = reply.length > SHORT_MESSAGE_BYTES ? reply : this.#slotsFor(reply.length).take(reply);
    while (this.#replyBytes > this.#limits.maxRecentReplyBytes && this.#size > 1) this.#forgetOldest();
  }

  /** What {@link keepReply} was given; a short one in an array that is the caller's. */
  replyOf({ replyBytes, reply }: RecentMessage, allocate: Allocate): Uint8Array | undefined {
    if (typeof reply !== "number") return reply;
    const copy = allocate(replyBytes);
    this.#slotsFor(replyBytes).copyTo(copy, reply);
    return copy;
  }

  forgetPeer(peer: Peer): void {
    for (let recent = peer.recent; recent !== undefined; recent = peer.recent) this.#forgetOldestOf(recent.oldest);
  }

  nextTimeout(): number | undefined {
    return this.#sweepAt;
  }

  handleTimeout(now: number): void {
    if (this.#sweepAt === undefined || now < this.#sweepAt) return;
    while (this.#oldest !== undefined && this.#oldest.expiresAt <= now) this.#forgetOldest();
    this.#sweepAt = this.#oldest === undefined ? undefined : Math.max(this.#oldest.expiresAt, now + SWEEP_INTERVAL_MS);
  }

  /**
   * Makes room for a message of the peer, and gives the one that it forgot where that can take its place: it has had its
   * reply, so that nobody will come to it with one.
   */
  #forgottenFor({ recent }: Peer): RecentMessage | undefined {
    if (recent === undefined || recent.size < this.#limits.maxRecentMessagesPerPeer) return undefined;
    const { oldest } = recent;
    this.#forgetOldestOf(oldest);
    if (oldest.replyBytes === 0) return undefined;
    oldest.replyBytes = 0;
    return oldest;
  }

  #forgetOldest(): void {
    if (this.#oldest !== undefined) this.#forgetOldestOf(this.#oldest);
  }

  /** The oldest of all is the oldest of its peer too, so that each peer's list loses only its first. */
  #forgetOldestOf(message: RecentMessage): void {
    const { peer, older, newer, newerOfPeer } = message;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    // One that has grown old in V8's heap would keep the newer from being collected while they are young.
    message.newer = message.newerOfPeer = message.next = undefined;
    message.expiresAt = FORGOTTEN;
    this.#replyBytes -= message.replyBytes;
    if (typeof message.reply === "number") this.#slotsFor(message.replyBytes).free(message.reply);
    message.reply = undefined;
    this.#size--;
    const { recent } = peer;
    if (recent === undefined) return;
    if (newerOfPeer === undefined) {
      peer.recent = undefined;
      return;
    }
    recent.oldest = newerOfPeer;
    recent.size--;
    unchain(recent.chains, message);
  }

  #slotsFor(replyBytes: number): ReplySlots {
    return replyBytes > SHORT_MESSAGE_BYTES / 2 ? this.#slots : this.#halfSlots;
  }
}

/** Not kept by itself: a reliable transport brings nothing twice. */
export function recentMessage(peer: Peer, messageId: number, expiresAt: number): RecentMessage {
  return {
    peer,
    messageId,
    expiresAt,
    reply: undefined,
    replyBytes: 0,
    older: undefined,
    newer: undefined,
    newerOfPeer: undefined,
    next: undefined,
  };
}

/** Makes twice as many chains, for all messages of the peer anew: the newest one first in each. */
function lengthen(recent: RecentOfPeer): void {
  const chains = emptyChains(recent.chains.length * 2);
  recent.chains = chains;
  for (let one: RecentMessage | undefined = recent.oldest; one !== undefined; one = one.newerOfPeer) chain(chains, one);
}

function emptyChains(count: number): RecentOfPeer["chains"] {
  return Array.from({ length: count }, () => undefined);
}

function chain(chains: RecentOfPeer["chains"], message: RecentMessage): void {
  const place = message.messageId & (chains.length - 1);
  message.next = chains[place];
  chains[place] = message;
}

/** The oldest message of all is the last in its chain, also where its messageId has been used again since. */
function unchain(chains: RecentOfPeer["chains"], message: RecentMessage): void {
  const place = message.messageId & (chains.length - 1);
  let before = chains[place];
  if (before === message) {
    chains[place] = undefined;
    return;
  }
  while (before !== undefined && before.next !== message) before = before.next;
  if (before !== undefined) before.next = undefined;
}

type RecentLimits = Pick<EndpointLimits, "maxRecentMessages" | "maxRecentMessagesPerPeer" | "maxRecentReplyBytes">;

/** A message received before, and what a duplicate of it is answered with. */
export interface RecentMessage {
  readonly peer: Peer;
  messageId: number;
  /**
   * Absolute ms; in the past when it was forgotten before. An integer: V8 has small ones in the object itself, and makes another
   * object for any other number, which is out of the processor's caches by the time that it is needed.
   */
  expiresAt: number;
  /** Its slot, where it is short. */
  reply: number | Uint8Array | undefined;
  /** 0: there is no reply. */
  replyBytes: number;
  older: RecentMessage | undefined;
  newer: RecentMessage | undefined;
  newerOfPeer: RecentMessage | undefined;
  /** An older one in its chain. */
  next: RecentMessage | undefined;
}

/** A peer's part: never empty. */
export interface RecentOfPeer {
  /** Each begins with the newest message of those whose messageIds end alike; as many as a power of two. */
  chains: (RecentMessage | undefined)[];
  oldest: RecentMessage;
  newest: RecentMessage;
  size: number;
}

const FORGOTTEN = -1;
/** So that a busy endpoint does not wake for every message that expires. */
const SWEEP_INTERVAL_MS = 5000;
