/** Of Q-Block transfers (RFC 9177 §7.2). Times are ms. */
export interface QBlockParameters {
  /** Default 10 (MAX_PAYLOADS): messages sent in a row. Both sides must mean the same. */
  readonly maxPayloads: number;
  /** Default 2000 (NON_TIMEOUT): the least pause after them, unless the other side says that it has them all. */
  readonly nonTimeoutMs: number;
  /** Default 4000 (NON_RECEIVE_TIMEOUT): how long nothing may come before what is missing is asked for; then twice as long. */
  readonly nonReceiveTimeoutMs: number;
  /** Default 4 (NON_MAX_RETRANSMIT): how often in a row that may be without any effect. */
  readonly nonMaxRetransmit: number;
  /** Default 247 s (NON_PARTIAL_TIMEOUT): how long a part of a body is kept, and what it was answered with. */
  readonly nonPartialTimeoutMs: number;
  /** Default 1.5 (ACK_RANDOM_FACTOR): NON_TIMEOUT is lengthened by chance up to this. */
  readonly ackRandomFactor: number;
}

export const DEFAULT_Q_BLOCK_PARAMETERS: QBlockParameters = {
  maxPayloads: 10,
  nonTimeoutMs: 2000,
  nonReceiveTimeoutMs: 4000,
  nonMaxRetransmit: 4,
  nonPartialTimeoutMs: 247_000,
  ackRandomFactor: 1.5,
};

/** How long to wait for what is missing, asked for so often in vain: twice as long each time, as long as the RFC goes. */
export function receiveTimeoutMs({ nonReceiveTimeoutMs }: QBlockParameters, attempts: number): number {
  return nonReceiveTimeoutMs * 2 ** Math.min(attempts, DEFAULT_Q_BLOCK_PARAMETERS.nonMaxRetransmit);
}
