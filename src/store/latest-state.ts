import type { SenmlRecord } from "#senml/index.js";
import { decodeRow, encodeRow } from "./codec.js";
import type { HeardRow } from "./device.js";
import type { KeptRow } from "./known-endpoints.js";
import type { LatestRow } from "./properties.js";

/**
 * What is known of a property's latest row: all that a report is planned by, and where the very bytes are, for its check. It
 * lives from one report to the next, long enough to grow old in V8's heap, so it is small and its array is shared.
 */
export interface LatestState {
  readonly count: number;
  /** Of the newest reading. */
  readonly timeSeconds: number;
  readonly array: Uint8Array;
  readonly at: number;
  readonly end: number;
}

/** Of a row to be written; its array is a larger one, and not to be kept: see {@link keepTogether}. */
export function writeLatest(row: LatestRow): LatestState {
  return stateOf(row, encodeRow(row));
}

/** Of the bytes of the store. @throws StoreError STORE_CORRUPT. */
export function readLatest(bytes: Uint8Array): LatestState {
  return stateOf(decodeRow<LatestRow>(bytes), bytes);
}

/** The row's bytes, which stay the state's. */
export function bytesOfLatest({ array, at, end }: LatestState): Uint8Array {
  return array.subarray(at, end);
}

/** The newest reading. */
export function recordOfLatest(state: LatestState): SenmlRecord {
  return decodeRow<LatestRow>(bytesOfLatest(state)).record;
}

/**
 * The same in one array, for what one report leaves. An array of its own takes each row 300 bytes outside of V8's heap, of
 * which V8 knows a third, until it finds time to collect what was replaced.
 */
export function keepTogether(
  heard: KeptRow<HeardRow>,
  latest: ReadonlyMap<string, LatestState>,
): { readonly heard: KeptRow<HeardRow>; readonly latest: ReadonlyMap<string, LatestState> } {
  let length = heard.bytes.length;
  for (const { at, end } of latest.values()) length += end - at;
  const array = new Uint8Array(length);
  array.set(heard.bytes);
  const kept = new Map<string, LatestState>();
  let at = heard.bytes.length;
  for (const [name, state] of latest) {
    const end = at + state.end - state.at;
    array.set(bytesOfLatest(state), at);
    kept.set(name, { count: state.count, timeSeconds: state.timeSeconds, array, at, end });
    at = end;
  }
  return { heard: { row: heard.row, bytes: array.subarray(0, heard.bytes.length) }, latest: kept };
}

function stateOf({ record, count }: LatestRow, bytes: Uint8Array): LatestState {
  return { count, timeSeconds: record.timeSeconds ?? 0, array: bytes, at: 0, end: bytes.length };
}
