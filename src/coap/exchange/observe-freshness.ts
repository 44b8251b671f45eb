/** Whether `next` is newer than `newest` (RFC 7641 §3.4): by sequence within half its 24-bit range, or by 128 s passed. */
export function isFresher(newest: Notified, next: Notified): boolean {
  const { sequence: v1, at: t1 } = newest;
  const { sequence: v2, at: t2 } = next;
  return (v1 < v2 && v2 - v1 < HALF_RANGE) || (v1 > v2 && v1 - v2 > HALF_RANGE) || t2 > t1 + MAX_REORDERING_MS;
}

export interface Notified {
  readonly sequence: number;
  /** ms */
  readonly at: number;
}

export const OBSERVE_SEQUENCE_RANGE: number = 2 ** 24;
const HALF_RANGE = 2 ** 23;
const MAX_REORDERING_MS = 128_000;
