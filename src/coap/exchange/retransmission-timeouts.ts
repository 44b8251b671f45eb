import { CocoaEstimator } from "./cocoa-estimator.js";
import { FasorEstimator } from "./fasor-estimator.js";
import type { TransmissionParameters } from "./parameters.js";

/** What the round-trip times of one peer say of the time-outs of the next Confirmable message to it. */
export interface RoundTripEstimator {
  /** For a message that is first sent at `now`; `fraction`, in [0, 1) by chance, spreads the time-outs of many senders. */
  timeouts(now: number, fraction: number): Timeouts;
  /** An answer came `rttMs` after the first transmission, of so many more. */
  measure(rttMs: number, retransmissions: number, now: number): void;
}

/** The time-outs of one message, ms: of its first transmission, and of each further one. */
export interface Timeouts {
  readonly firstMs: number;
  /** After the `count`th retransmission, counted from 1; `previousMs` was the time-out before it. */
  readonly next: (previousMs: number, count: number) => number;
}

/** undefined: every peer's time-outs are those of {@link defaultTimeouts}. */
export function estimatorOf(parameters: TransmissionParameters, now: number): RoundTripEstimator | undefined {
  const { roundTripEstimation, ackTimeoutMs, ackRandomFactor } = parameters;
  switch (roundTripEstimation) {
    case "none":
      return undefined;
    case "cocoa":
      return new CocoaEstimator(ackTimeoutMs, ackRandomFactor, now);
    case "fasor":
      return new FasorEstimator(ackTimeoutMs);
  }
}

/** RFC 7252 §4.2: from ACK_TIMEOUT to ACK_RANDOM_FACTOR times as long, then doubling. */
export function defaultTimeouts({ ackTimeoutMs, ackRandomFactor }: TransmissionParameters, fraction: number): Timeouts {
  return { firstMs: ackTimeoutMs * (1 + (ackRandomFactor - 1) * fraction), next: doubled };
}

function doubled(previousMs: number): number {
  return 2 * previousMs;
}
