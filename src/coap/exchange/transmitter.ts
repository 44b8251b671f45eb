import { SHORT_MESSAGE_BYTES } from "../wire/message.js";
import { type EndpointCore, randomFraction } from "./core.js";
import type { Peer } from "./peer.js";
import { defaultTimeouts, estimatorOf, type Timeouts } from "./retransmission-timeouts.js";
import { type Timed, type Timer, TimerHeap } from "./timer-heap.js";

/** Reliable transmission of Confirmable messages (RFC 7252 §4.2): back-off, and the end by answer or by time-out. */
export class Transmitter {
  readonly #core: EndpointCore;
  readonly #timers = new TimerHeap<Transmission>();

  constructor(core: EndpointCore) {
    this.#core = core;
  }

  /**
   * Sends a Confirmable message until `finish` is called for its messageId or the transmissions are used up; again only as often
   * as all of them have `allowance` bytes.
   */
  send(
    peer: Peer,
    messageId: number,
    bytes: Uint8Array,
    owner: TransmissionOwner,
    now: number,
    allowance: number = Infinity,
  ): void {
    const { parameters } = this.#core;
    peer.roundTrips ??= estimatorOf(parameters, now);
    const fraction = randomFraction(this.#core);
    const timeouts = peer.roundTrips?.timeouts(now, fraction) ?? defaultTimeouts(parameters, fraction);
    const transmission: Transmission = {
      peer,
      messageId,
      bytes: kept(bytes),
      owner,
      sentAt: now,
      timeouts,
      timeoutMs: timeouts.firstMs,
      retransmissions: 0,
      maxRetransmit: Math.min(parameters.maxRetransmit, Math.floor(allowance / bytes.length) - 1),
      timer: undefined,
    };
    peer.transmissions ??= new Map();
    peer.transmissions.set(messageId, transmission);
    this.#core.emit({ type: "datagram", peer, bytes });
    this.#timers.schedule(transmission, now + transmission.timeoutMs);
  }

  /**
   * The message was acknowledged, reset or given up: no further transmission. Returns it; undefined when there is none, or
   * it is not `owner`'s where that is given. An answer at `answeredAt` tells of the round-trip time.
   */
  finish(peer: Peer, messageId: number, owner?: TransmissionOwner, answeredAt?: number): Transmission | undefined {
    const transmission = peer.transmissions?.get(messageId);
    if (transmission === undefined || (owner !== undefined && transmission.owner !== owner)) return undefined;
    peer.transmissions?.delete(messageId);
    if (peer.transmissions?.size === 0) peer.transmissions = undefined;
    this.#timers.cancel(transmission);
    if (answeredAt !== undefined)
      peer.roundTrips?.measure(answeredAt - transmission.sentAt, transmission.retransmissions, answeredAt);
    return transmission;
  }

  /** Sends again at once what is not acknowledged; back-off and count go on as they were. Returns how many messages that is. */
  retransmit(peer: Peer): number {
    for (const { bytes } of peer.transmissions?.values() ?? []) this.#core.emit({ type: "datagram", peer, bytes });
    return peer.transmissions?.size ?? 0;
  }

  closePeer(peer: Peer): void {
    for (const messageId of peer.transmissions?.keys() ?? []) this.finish(peer, messageId);
  }

  nextTimeout(): number | undefined {
    return this.#timers.next();
  }

  handleTimeout(now: number): void {
    for (let due = this.#timers.take(now); due !== undefined; due = this.#timers.take(now)) {
      if (due.retransmissions >= due.maxRetransmit) {
        this.finish(due.peer, due.messageId);
        due.owner.onTransmissionTimeout(now);
        continue;
      }
      due.retransmissions++;
      due.timeoutMs = due.timeouts.next(due.timeoutMs, due.retransmissions);
      const replacement = due.owner.onRetransmission?.();
      if (replacement !== undefined) this.#replace(due, replacement);
      this.#core.emit({ type: "datagram", peer: due.peer, bytes: due.bytes });
      this.#timers.schedule(due, now + due.timeoutMs);
    }
  }

  /** Differs from a new transmission: back-off and count go on (RFC 7641 §4.5.2). */
  #replace(transmission: Transmission, replacement: { readonly messageId: number; readonly bytes: Uint8Array }): void {
    transmission.peer.transmissions?.delete(transmission.messageId);
    transmission.messageId = replacement.messageId;
    transmission.bytes = kept(replacement.bytes);
    transmission.peer.transmissions?.set(transmission.messageId, transmission);
  }
}

function kept(bytes: Uint8Array): Uint8Array {
  return bytes.length > SHORT_MESSAGE_BYTES ? bytes : bytes.slice();
}

export interface Transmission extends Timed {
  readonly peer: Peer;
  messageId: number;
  bytes: Uint8Array;
  readonly owner: TransmissionOwner;
  /** Of the first transmission, ms. */
  readonly sentAt: number;
  readonly timeouts: Timeouts;
  /** The one that runs. */
  timeoutMs: number;
  retransmissions: number;
  readonly maxRetransmit: number;
  timer: Timer | undefined;
}

/** Who sent a Confirmable message and is told how that ended. */
export interface TransmissionOwner {
  onAcknowledgement(now: number): void;
  onReset(now: number): void;
  onTransmissionTimeout(now: number): void;
  /** Newer content to send in place of the old. */
  onRetransmission?(): { readonly messageId: number; readonly bytes: Uint8Array } | undefined;
}
