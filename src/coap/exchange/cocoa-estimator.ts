import type { RoundTripEstimator, Timeouts } from "./retransmission-timeouts.js";

/**
 * The round-trip time of one peer and the retransmission time-out that follows from it, as CoCoA has it
 * (draft-ietf-core-cocoa-03): a strong estimate from exchanges without retransmission, a weak one from those with one or
 * two, which cannot tell the transmission that was answered and so counts half as much.
 */
export class CocoaEstimator implements RoundTripEstimator {
  readonly #randomFactor: number;
  #rtoMs: number;
  #updatedAt: number;
  #strong: Estimate | undefined;
  #weak: Estimate | undefined;

  constructor(initialRtoMs: number, randomFactor: number, now: number) {
    this.#randomFactor = randomFactor;
    this.#rtoMs = initialRtoMs;
    this.#updatedAt = now;
  }

  timeouts(now: number, fraction: number): Timeouts {
    const rtoMs = this.#currentRtoMs(now);
    const factor = backoffFactor(rtoMs);
    return {
      firstMs: rtoMs * (1 + (this.#randomFactor - 1) * fraction),
      next: (previousMs) => Math.min(previousMs * factor, COCOA_MAX_RTO_MS),
    };
  }

  /** An answer came `rttMs` after the first transmission (§4.2). More than two retransmissions say nothing. */
  measure(rttMs: number, retransmissions: number, now: number): void {
    if (retransmissions > 2) return;
    const isStrong = retransmissions === 0;
    const estimate = updated(isStrong ? this.#strong : this.#weak, rttMs);
    if (isStrong) this.#strong = estimate;
    else this.#weak = estimate;
    const rtoMs = estimate.smoothedMs + (isStrong ? 4 : 1) * estimate.variationMs;
    const weight = isStrong ? 0.5 : 0.25;
    this.#rtoMs = Math.min(Math.max(weight * rtoMs + (1 - weight) * this.#rtoMs, MIN_RTO_MS), COCOA_MAX_RTO_MS);
    this.#updatedAt = now;
  }

  /** Before it is spread by chance. An old one drifts back (§4.3). */
  #currentRtoMs(now: number): number {
    const age = now - this.#updatedAt;
    if (this.#rtoMs < SHORT_MS && age > 16 * this.#rtoMs) {
      this.#rtoMs *= 2;
      this.#updatedAt = now;
    } else if (this.#rtoMs > LONG_MS && age > 4 * this.#rtoMs) {
      this.#rtoMs = 1000 + this.#rtoMs / 2;
      this.#updatedAt = now;
    }
    return this.#rtoMs;
  }
}

/** What a time-out is multiplied by with each retransmission (§4.2.1): a short one backs off faster. */
function backoffFactor(firstRtoMs: number): number {
  return firstRtoMs < SHORT_MS ? 3 : firstRtoMs > LONG_MS ? 1.5 : 2;
}

interface Estimate {
  readonly smoothedMs: number;
  readonly variationMs: number;
}

/** RFC 6298 §2, with alpha 1/4 and beta 1/8 as in CoCoA. */
function updated(previous: Estimate | undefined, rttMs: number): Estimate {
  if (previous === undefined) return { smoothedMs: rttMs, variationMs: rttMs / 2 };
  const { smoothedMs, variationMs } = previous;
  return {
    variationMs: variationMs * (7 / 8) + Math.abs(smoothedMs - rttMs) / 8,
    smoothedMs: smoothedMs * (3 / 4) + rttMs / 4,
  };
}

const SHORT_MS = 1000;
const LONG_MS = 3000;
/** A peer on the same machine must not be flooded for a moment's delay. */
const MIN_RTO_MS = 50;
/** Of a transmission and of its repetitions (§4.2.1). */
export const COCOA_MAX_RTO_MS = 32_000;
