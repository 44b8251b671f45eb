import { encodePack, type SenmlRecord } from "#senml/index.js";
import type { DeviceClock } from "./device-clock.js";
import type { Outbox, QueuedReading } from "./outbox.js";

/**
 * The oldest readings that fit one report: a SenML-CBOR pack of at most `maxBytes`, so that it travels in one datagram.
 * A single reading that is longer is given alone; undefined when there is nothing to report.
 */
export function nextBatch(outbox: Outbox, clock: DeviceClock, maxBytes: number): ReportBatch | undefined {
  let entries = outbox.oldest(MAX_RECORDS);
  for (;;) {
    if (entries.length === 0) return undefined;
    const payload = encodePack(
      entries.map(([, reading]) => recordOf(reading, clock)),
      "cbor",
    );
    if (payload.length <= maxBytes || entries.length === 1)
      return { ids: entries.map(([id]) => id), names: entries.map(([, { name }]) => name), payload };
    const fitting = Math.floor((entries.length * maxBytes) / payload.length);
    entries = entries.slice(0, Math.max(1, Math.min(fitting, entries.length - 1)));
  }
}

/** What goes in one report, and the ids of the readings in it. */
export interface ReportBatch {
  readonly ids: readonly number[];
  readonly names: readonly string[];
  readonly payload: Uint8Array;
}

function recordOf({ name, unit, value, stamp, updateTimeSeconds }: QueuedReading, clock: DeviceClock): SenmlRecord {
  return {
    name,
    ...(unit === undefined ? {} : { unit }),
    value,
    timeSeconds: clock.timeSeconds(stamp),
    ...(updateTimeSeconds === undefined ? {} : { updateTimeSeconds }),
  };
}

/** Readings of few bytes compress well; past this number they never fit a datagram. */
const MAX_RECORDS = 128;
