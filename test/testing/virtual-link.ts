import { SeededRandom } from "#sim/seeded-random.js";
/**
 * A link between two sans-IO endpoints on virtual time: latency, loss, reordering, duplication, MTU and bit flips, all
 * decided by a seeded generator, so that a failing run is repeated by its seed.
 */
export class VirtualLink {
  readonly seed: number;
  /** Milliseconds on the link's own clock; it moves only in `run`. */
  now = 0;
  readonly counts = { sent: 0, delivered: 0, lost: 0, duplicated: 0, corrupted: 0, oversized: 0 };

  readonly #conditions: LinkConditions;
  readonly #random: SeededRandom;
  readonly #flight: Datagram[] = [];
  #order = 0;

  constructor(conditions: Partial<LinkConditions> & { readonly seed: number }) {
    this.seed = conditions.seed;
    this.#conditions = { ...PERFECT_LINK, ...conditions };
    this.#random = new SeededRandom(conditions.seed);
  }

  /** Puts a copy of `bytes` on the wire toward side `to`. */
  send(to: Side, bytes: Uint8Array): void {
    const link = this.#conditions;
    this.counts.sent++;
    if (bytes.length > link.mtu) {
      this.counts.oversized++;
      return;
    }
    if (this.#random.chance(link.loss)) {
      this.counts.lost++;
      return;
    }
    this.#enqueue(to, bytes);
    if (this.#random.chance(link.duplication)) {
      this.counts.duplicated++;
      this.#enqueue(to, bytes);
    }
  }

  /**
   * Runs both peers until `isDone`, until nothing is left to happen, or until `limitMs` of virtual time.
   * Returns whether `isDone` came true.
   */
  run(a: LinkPeer, b: LinkPeer, isDone: () => boolean, limitMs = 600_000): boolean {
    const peers = { a, b } as const;
    const end = this.now + limitMs;
    for (;;) {
      this.#drain(a, "b");
      this.#drain(b, "a");
      if (isDone()) return true;
      const datagram = this.#next();
      const timerA = a.nextTimeout() ?? Infinity;
      const timerB = b.nextTimeout() ?? Infinity;
      const at = Math.min(datagram?.at ?? Infinity, timerA, timerB);
      if (at === Infinity) return false;
      if (at > end) {
        this.now = end;
        return false;
      }
      this.now = Math.max(this.now, at);
      if (datagram !== undefined && datagram.at <= at) {
        this.#flight.splice(this.#flight.indexOf(datagram), 1);
        this.counts.delivered++;
        peers[datagram.to].handleDatagram(datagram.bytes, this.now);
      } else if (timerA <= at) {
        a.handleTimeout(this.now);
      } else {
        b.handleTimeout(this.now);
      }
    }
  }

  #drain(from: LinkPeer, to: Side): void {
    for (let bytes = from.pollDatagram(this.now); bytes !== undefined; bytes = from.pollDatagram(this.now)) {
      this.send(to, bytes);
    }
  }

  #enqueue(to: Side, bytes: Uint8Array): void {
    const link = this.#conditions;
    const copy = Uint8Array.from(bytes);
    if (copy.length > 0 && this.#random.chance(link.corruption)) {
      this.counts.corrupted++;
      const index = this.#random.below(copy.length);
      copy[index] = (copy[index] ?? 0) ^ (1 << this.#random.below(8));
    }
    const extra = this.#random.chance(link.reordering) ? this.#random.below(link.latencyMs * 4 + 1) : 0;
    this.#flight.push({ to, bytes: copy, at: this.now + link.latencyMs + extra, order: this.#order++ });
  }

  #next(): Datagram | undefined {
    let first: Datagram | undefined;
    for (const datagram of this.#flight) {
      if (first === undefined || datagram.at < first.at || (datagram.at === first.at && datagram.order < first.order)) {
        first = datagram;
      }
    }
    return first;
  }
}

/** What stands at an end of the link: a sans-IO endpoint, or an adapter of one. */
export interface LinkPeer {
  handleDatagram(bytes: Uint8Array, now: number): void;
  handleTimeout(now: number): void;
  /** Absolute time in ms of the next timeout; undefined when none is set. */
  nextTimeout(): number | undefined;
  /** The next datagram to send; undefined when there is none. Handles all other outputs itself. */
  pollDatagram(now: number): Uint8Array | undefined;
}

export type Side = "a" | "b";

/** Probabilities are 0 to 1, for each datagram. */
export interface LinkConditions {
  readonly latencyMs: number;
  readonly loss: number;
  readonly reordering: number;
  readonly duplication: number;
  readonly corruption: number;
  readonly mtu: number;
}

export const PERFECT_LINK: LinkConditions = {
  latencyMs: 10,
  loss: 0,
  reordering: 0,
  duplication: 0,
  corruption: 0,
  mtu: 65_535,
};

interface Datagram {
  readonly to: Side;
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly order: number;
}
