import { CoapError } from "../errors.js";
import { COCOA_MAX_RTO_MS } from "./cocoa-estimator.js";
import { FASOR_MAX_TIMEOUT_MS } from "./fasor-estimator.js";

/** Transmission parameters (RFC 7252 §4.8, RFC 7641). Times are ms. */
export interface TransmissionParameters {
  /**
   * Default "none": every peer's first time-out is ACK_TIMEOUT (RFC 7252 §4.2). "cocoa": it follows the peer's round-trip
   * times (draft-ietf-core-cocoa-03), which suits networks that lose much and whose delays are below 2 s and even. "fasor":
   * it follows them too, by measurements beyond doubt only (draft-ietf-core-fasor-02), and backs off by all the time that the
   * exchange before took: for delays above 2 s, or that grow with the load, where the other two send everything twice.
   * ACK_TIMEOUT is the first time-out of all three.
   */
  readonly roundTripEstimation: RoundTripEstimation;
  /**
   * Default 1 (PROBING_RATE): what a peer that has left two Non-confirmable requests in a row unanswered is sent on average
   * until it is heard again (RFC 7252 §4.7). Infinity: no such limit.
   */
  readonly probingRateBytesPerSecond: number;
  /** Default 2000. Lower than the round-trip time floods a slow network with retransmissions. */
  readonly ackTimeoutMs: number;
  /** Default 1.5; at least 1, which synchronizes retransmissions of many senders. FASOR spreads them by the round-trip time. */
  readonly ackRandomFactor: number;
  /** Default 4 retransmissions after the first transmission. */
  readonly maxRetransmit: number;
  /**
   * Default 1: simultaneous outstanding interactions toward one peer (RFC 7252 §4.7): requests without Acknowledgement
   * or response yet, Confirmable responses and notifications. The rest waits in a queue.
   */
  readonly nstart: number;
  /** Default 500: how long the application may take before a Confirmable request gets an empty Acknowledgement. */
  readonly separateResponseDelayMs: number;
  /**
   * Default 5000: an observation of ours is asked for anew this long after its Max-Age has passed, or up to three times as
   * long by chance (RFC 7641 §3.3.1: 5 to 15 s). Infinity: never; an observation that the server forgot is silent then.
   */
  readonly reregistrationDelayMs: number;
  /** Default 24 h: at least this often a notification is Confirmable (RFC 7641 §4.5). */
  readonly confirmableNotificationIntervalMs: number;
  /** Default 20: Non-confirmable notifications in a row, until a Confirmable one asks whether the observer still lives. */
  readonly maxNonConfirmableNotifications: number;
}

export type RoundTripEstimation = (typeof ROUND_TRIP_ESTIMATIONS)[number];

export const ROUND_TRIP_ESTIMATIONS = ["none", "cocoa", "fasor"] as const;

export const DEFAULT_TRANSMISSION_PARAMETERS: TransmissionParameters = {
  roundTripEstimation: "none",
  probingRateBytesPerSecond: 1,
  ackTimeoutMs: 2000,
  ackRandomFactor: 1.5,
  maxRetransmit: 4,
  nstart: 1,
  separateResponseDelayMs: 500,
  reregistrationDelayMs: 5000,
  confirmableNotificationIntervalMs: 24 * 3600 * 1000,
  maxNonConfirmableNotifications: 20,
};

/** The longest time a datagram is expected to take from sender to receiver (RFC 7252 §4.8.2). */
export const MAX_LATENCY_MS = 100_000;

/** Times derived from the parameters (RFC 7252 §4.8.2). */
export interface DerivedTimes {
  readonly maxTransmitSpanMs: number;
  readonly maxTransmitWaitMs: number;
  readonly exchangeLifetimeMs: number;
  readonly nonLifetimeMs: number;
}

/** The defaults with these in their place. @throws CoapError COAP_INVALID_MESSAGE for one out of its range (RFC 7252 §4.8.1). */
export function transmissionParameters(given: Partial<TransmissionParameters> = {}): TransmissionParameters {
  const parameters = { ...DEFAULT_TRANSMISSION_PARAMETERS, ...given };
  const { roundTripEstimation, ackRandomFactor, ackTimeoutMs, maxRetransmit, nstart } = parameters;
  const isSound =
    ROUND_TRIP_ESTIMATIONS.includes(roundTripEstimation) &&
    ackRandomFactor >= 1 &&
    ackTimeoutMs > 0 &&
    Number.isInteger(maxRetransmit) &&
    maxRetransmit >= 0 &&
    nstart >= 1;
  if (!isSound)
    throw new CoapError("COAP_INVALID_MESSAGE", "ackRandomFactor and nstart are at least 1, ackTimeoutMs above 0");
  return parameters;
}

export function derivedTimes(parameters: TransmissionParameters): DerivedTimes {
  const { ackTimeoutMs, maxRetransmit } = parameters;
  const maxTransmitSpanMs = spanOf(parameters, maxRetransmit);
  const processingDelayMs = ackTimeoutMs;
  return {
    maxTransmitSpanMs,
    maxTransmitWaitMs: spanOf(parameters, maxRetransmit + 1),
    exchangeLifetimeMs: maxTransmitSpanMs + 2 * MAX_LATENCY_MS + processingDelayMs,
    nonLifetimeMs: maxTransmitSpanMs + MAX_LATENCY_MS,
  };
}

/** The sum of this many time-outs toward a peer of which nothing is known yet, as long as chance makes them. */
function spanOf(parameters: TransmissionParameters, timeouts: number): number {
  const { ackTimeoutMs, ackRandomFactor, roundTripEstimation } = parameters;
  const longestMs = ackTimeoutMs * ackRandomFactor;
  switch (roundTripEstimation) {
    case "none":
      return longestMs * (2 ** timeouts - 1);
    case "cocoa":
      return boundedSpan(longestMs, timeouts, COCOA_MAX_RTO_MS * ackRandomFactor);
    case "fasor":
      // Spread up to RTO + SRTT, which is a third of the initial RTO.
      return boundedSpan((4 / 3) * ackTimeoutMs, timeouts, FASOR_MAX_TIMEOUT_MS);
  }
}

function boundedSpan(firstMs: number, timeouts: number, boundMs: number): number {
  let spanMs = 0;
  for (let index = 0; index < timeouts; index++) spanMs += Math.min(firstMs * 2 ** index, boundMs);
  return spanMs;
}

/** What one endpoint keeps at most, whatever its peers send. */
export interface EndpointLimits {
  /**
   * Default 64 received messages remembered per peer against duplicates, with the replies to them; the oldest is forgotten
   * first. Fewer than a peer has under way at once lets its retransmissions be handled twice.
   */
  readonly maxRecentMessagesPerPeer: number;
  /** Default 200,000 of them in all, some 300 bytes each; the oldest is forgotten first. */
  readonly maxRecentMessages: number;
  /** Default 64 MiB of replies kept with them; the oldest message is forgotten first. */
  readonly maxRecentReplyBytes: number;
  /**
   * Default 64 interactions waiting for NSTART per peer. Beyond it requests fail with COAP_LIMIT_REACHED, and separate
   * responses go out Non-confirmable.
   */
  readonly maxQueuedRequestsPerPeer: number;
  /** Default 32 observations that one peer may hold on us; further ones get a plain response. */
  readonly maxObservationsPerPeer: number;
  /** Default 100,000 observations in all. */
  readonly maxObservations: number;
  /**
   * Default 66,560: the longest message taken on a reliable transport, and so what one connection may make us keep before a
   * message is whole. From 1152, which every peer may count on (RFC 8323 §5.3.1).
   */
  readonly maxStreamMessageBytes: number;
}

export const DEFAULT_ENDPOINT_LIMITS: EndpointLimits = {
  maxRecentMessagesPerPeer: 64,
  maxRecentMessages: 200_000,
  maxRecentReplyBytes: 64 * 1024 * 1024,
  maxQueuedRequestsPerPeer: 64,
  maxObservationsPerPeer: 32,
  maxObservations: 100_000,
  maxStreamMessageBytes: 66_560,
};
