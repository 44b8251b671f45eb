import type { SenmlRecord } from "#senml/index.js";
import type { Backend, Change, Check } from "./backend.js";
import { writtenRow, readRow } from "./codec.js";
import type { DeviceSecurity, HeardRow } from "./device.js";
import { heardPlace, isInterval, missedBetween } from "./device-rows.js";
import type { KeptRow } from "./known-endpoints.js";
import { planOutbox } from "./outbox.js";
import type { LatestState } from "./latest-state.js";
import type { Properties } from "./properties.js";
import { timeKey } from "./time-key.js";

/**
 * What one report changes besides its registration: its readings, when and by whom the endpoint was heard, and what is to be
 * forwarded; all of it in one change (R6, P1, O1).
 */
export class ReportPlanner {
  readonly #backend: Backend;
  readonly #properties: Properties;
  readonly #hasOutbox: boolean;
  #lastOutboxKey = 0;

  /** @param hasOutbox - whether new readings are also put into the outbox. */
  constructor(backend: Backend, properties: Properties, hasOutbox: boolean) {
    this.#backend = backend;
    this.#properties = properties;
    this.#hasOutbox = hasOutbox;
  }

  /**
   * `before` is what was kept of the endpoint: the caller's to read, or as it knows it. `checks` are those of the change so
   * far, which is added to.
   *
   * @throws DpeError DPE_TOO_MANY_PROPERTIES.
   */
  async plan(
    endpoint: string,
    { records, server }: IncomingReport,
    now: number,
    before: EndpointBefore,
    checks: Check[] = [],
  ): Promise<PlannedChange> {
    const planned = await this.#properties.plan(endpoint, records, now, before.latest, checks);
    const { sets, deletes, added, latest } = planned;
    const heardBefore = before.heard?.row;
    const missed = (heardBefore?.missed ?? 0) + missedBetween(heardBefore, now);
    const intervalSeconds = shortestInterval(records) ?? heardBefore?.intervalSeconds;
    const heard = writtenRow<HeardRow>(
      intervalSeconds === undefined ? { at: now, server, missed } : { at: now, server, missed, intervalSeconds },
    );
    sets.push({ space: "heard", partition: "", key: endpoint, value: heard.bytes });
    if (this.#hasOutbox && added.length > 0) sets.push(planOutbox(endpoint, added, this.#outboxKey(now, server)));
    return { change: { checks, sets, deletes }, added, heard, latest };
  }

  /** When and by whom the endpoint was heard last. */
  async heard(endpoint: string): Promise<KeptRow<HeardRow> | undefined> {
    const [bytes] = await this.#backend.get([heardPlace(endpoint)]);
    return readRow(bytes);
  }

  /** Rises with every report of this process, also when the clock does not. */
  #outboxKey(now: number, server: string): string {
    this.#lastOutboxKey = Math.max(now, this.#lastOutboxKey + 1 / 1024);
    return `${timeKey(this.#lastOutboxKey)}.${server}`;
  }
}

/** The longest time until the next report, as the readings declare it. */
function shortestInterval(records: readonly SenmlRecord[]): number | undefined {
  let shortest: number | undefined;
  for (const { updateTimeSeconds } of records)
    if (updateTimeSeconds !== undefined && isInterval(updateTimeSeconds))
      shortest = Math.min(shortest ?? updateTimeSeconds, updateTimeSeconds);
  return shortest;
}

/** Readings as they came, and by which server and with which security. */
export interface IncomingReport {
  readonly records: readonly SenmlRecord[];
  /** The id of the server that heard the endpoint. */
  readonly server: string;
  readonly security?: DeviceSecurity;
}

/** What was kept of an endpoint before a report. */
export interface EndpointBefore {
  readonly heard: KeptRow<HeardRow> | undefined;
  /** Latest rows that need not be read. */
  readonly latest?: ReadonlyMap<string, LatestState>;
}

/** `added`: the readings that were not known before; `heard` and `latest`: to be kept by `keepTogether`, once it is committed. */
export interface PlannedChange {
  readonly change: Change;
  readonly added: readonly SenmlRecord[];
  readonly heard: KeptRow<HeardRow>;
  readonly latest: ReadonlyMap<string, LatestState>;
}
