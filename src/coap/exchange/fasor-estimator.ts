import type { RoundTripEstimator, Timeouts } from "./retransmission-timeouts.js";

/**
 * Fast-Slow RTO (draft-ietf-core-fasor-02): a fast time-out from exchanges whose round-trip time is beyond doubt, since they
 * took one transmission; and after one that took more a slow time-out, as long as all of it and half of that again, which
 * lets what was sent needlessly drain from the network and the next measurement be beyond doubt.
 *
 * | state | time-outs | an answer to the first transmission | to a later one |
 * |---|---|---|---|
 * | fast | F, 2F, 4F… | fast | fast-slow-fast |
 * | fast-slow-fast | F, max(S, 2F), 2F, 4F… | fast | slow-fast |
 * | slow-fast | S, F, 2F, 4F… | fast | slow-fast |
 *
 * Of two things the draft leaves open: no time-out is longer than a minute, so that four retransmissions are over before a
 * peer with the parameters of RFC 7252 forgets the first one (EXCHANGE_LIFETIME, 247 s); and the clock granularity of RFC
 * 6298 §2 is 50 ms, since a process on a busy machine answers no more evenly than that. Without the Retransmission Count
 * option (§4.4), which has no number.
 */
export class FasorEstimator implements RoundTripEstimator {
  #state: FasorState = "fast";
  #fastMs: number;
  #smoothedMs: number;
  /** undefined: nothing is measured yet. */
  #variationMs: number | undefined;
  #slowMs = 0;

  constructor(initialRtoMs: number) {
    this.#fastMs = initialRtoMs;
    // §4.1: as if a first measurement had led to the initial time-out.
    this.#smoothedMs = initialRtoMs / INITIAL_RTO_IN_RTTS;
  }

  timeouts(_now: number, fraction: number): Timeouts {
    // §4.1: spread from RTO + SRTT/4 to RTO + SRTT.
    const fastMs = bounded(this.#fastMs + this.#smoothedMs * (1 / 4 + (3 / 4) * fraction));
    const slowMs = this.#slowMs;
    switch (this.#state) {
      case "fast":
        return { firstMs: fastMs, next: (previousMs) => bounded(2 * previousMs) };
      case "fast-slow-fast":
        return {
          firstMs: fastMs,
          next: (_, count) =>
            count === 1 ? bounded(Math.max(slowMs, 2 * fastMs)) : bounded(fastMs * 2 ** (count - 1)),
        };
      case "slow-fast":
        return { firstMs: bounded(slowMs), next: (_, count) => bounded(fastMs * 2 ** (count - 1)) };
    }
  }

  measure(rttMs: number, retransmissions: number): void {
    if (retransmissions === 0) {
      this.#update(rttMs);
      this.#state = "fast";
    } else {
      this.#slowMs = SLOW_FACTOR * rttMs;
      this.#state = this.#state === "fast" ? "fast-slow-fast" : "slow-fast";
    }
  }

  /** RFC 6298 §2, but the first deviation is R/2K (§4.1), and there is no lower bound of a second. */
  #update(rttMs: number): void {
    if (this.#variationMs === undefined) {
      this.#smoothedMs = rttMs;
      this.#variationMs = rttMs / (2 * K);
    } else {
      this.#variationMs = (3 / 4) * this.#variationMs + (1 / 4) * Math.abs(this.#smoothedMs - rttMs);
      this.#smoothedMs = (7 / 8) * this.#smoothedMs + (1 / 8) * rttMs;
    }
    this.#fastMs = bounded(this.#smoothedMs + Math.max(CLOCK_GRANULARITY_MS, K * this.#variationMs));
  }
}

/** How a message's time-outs grow, by what became of the one before (§4.3). */
type FasorState = "fast" | "fast-slow-fast" | "slow-fast";

function bounded(timeoutMs: number): number {
  return Math.min(timeoutMs, FASOR_MAX_TIMEOUT_MS);
}

const K = 4;
const SLOW_FACTOR = 1.5;
/** What RFC 6298 §2 makes of a first measurement: R + 4·R/2. */
const INITIAL_RTO_IN_RTTS = 3;
const CLOCK_GRANULARITY_MS = 50;
export const FASOR_MAX_TIMEOUT_MS = 60_000;
