import { monotonicNow } from "./udp-socket.js";

/** One reading of the clock does for all that a datagram causes at once. */
export class TurnClock {
  #turnAt = NO_TURN;

  /** A datagram came in; gives the time. */
  begin(): number {
    return (this.#turnAt = monotonicNow());
  }

  end(): void {
    this.#turnAt = NO_TURN;
  }

  now(): number {
    return this.#turnAt === NO_TURN ? monotonicNow() : this.#turnAt;
  }
}

/** A number, so that V8 keeps the field as one, and makes no object for each time. */
const NO_TURN = -Infinity;
