import { randomInt } from "node:crypto";

/** How long to wait before servers are tried again: after each round twice as long. */
export class Backoff {
  #waitMs = MIN_WAIT_MS;

  /** A server answered. */
  reset(): void {
    this.#waitMs = MIN_WAIT_MS;
  }

  /**
   * After a server that did not answer with `error`; `isEveryoneTried`: it was the last one of a round. `mostMs`: the most
   * that is waited.
   */
  next(error: unknown, isEveryoneTried: boolean, mostMs: number = MAX_WAIT_MS): number {
    if (!isEveryoneTried) return randomInt(MIN_WAIT_MS);
    const waitMs = Math.min(this.#waitMs, isRefusal(error) ? MAX_REFUSED_WAIT_MS : mostMs);
    this.#waitMs = Math.min(this.#waitMs * 2, mostMs);
    // Half of the wait is random, so that a fleet does not come back as one.
    return Math.round(waitMs / 2) + randomInt(Math.ceil(waitMs / 2));
  }
}

/** The machine is there, so the program will be soon; and to be told so costs a datagram each way. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ("code" in error && error.code === "NET_CONNECTION_REFUSED") || isRefusal(error.cause);
}

const MIN_WAIT_MS = 1000;
const MAX_REFUSED_WAIT_MS = 10_000;
export const MAX_WAIT_MS = 60_000;
/** After a handshake that was refused: somebody has to do something about it. */
export const MAX_DENIED_WAIT_MS = 300_000;
