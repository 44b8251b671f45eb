import { monotonicNow } from "./udp-socket.js";

/** One reading of the clock does for all that a datagram causes at once. */
export class TurnClock {
  #turnAt: number | undefined;

  /** A datagram came in; gives the time. */
  begin(): number {
    return (this.#turnAt = monotonicNow());
  }

  end(): void {
    this.#turnAt = undefined;
  }

  now(): number {
    return this.#turnAt ?? monotonicNow();
  }
}
