/** A time, ms since 1970, as ISO 8601; one far outside of the calendar, as a device may give it, as near as can be. */
export function isoTime(ms: number): string {
  return new Date(Math.max(-MAX_DATE_MS, Math.min(MAX_DATE_MS, Number.isFinite(ms) ? ms : 0))).toISOString();
}

/** ECMA-262 §21.4.1.1 */
const MAX_DATE_MS = 8.64e15;
