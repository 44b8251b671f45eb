import type { SenmlRecord } from "#senml/index.js";
import type { Backend, Change } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import type { DeviceSecurity, HeardRow } from "./device.js";
import { heardPlace, missedBetween } from "./device-rows.js";
import { planOutbox } from "./outbox.js";
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
   * @param isFirst - nothing that was kept of the endpoint counts.
   * @throws DpeError DPE_TOO_MANY_PROPERTIES.
   */
  async plan(
    endpoint: string,
    { records, server }: IncomingReport,
    now: number,
    { isFirst = false }: { readonly isFirst?: boolean } = {},
  ): Promise<PlannedChange> {
    const heardBefore = isFirst ? undefined : await this.#heard(endpoint);
    const { checks, sets, deletes, added } = await this.#properties.plan(endpoint, records, now);
    const intervals = records.flatMap(({ updateTimeSeconds }) => updateTimeSeconds ?? []);
    const intervalSeconds = intervals.length === 0 ? heardBefore?.intervalSeconds : Math.min(...intervals);
    const heard: HeardRow = {
      at: now,
      server,
      missed: (heardBefore?.missed ?? 0) + missedBetween(heardBefore, now),
      ...(intervalSeconds === undefined ? {} : { intervalSeconds }),
    };
    const outbox =
      this.#hasOutbox && added.length > 0 ? [planOutbox(endpoint, added, this.#outboxKey(now, server))] : [];
    return {
      change: { checks, deletes, sets: [...sets, { ...heardPlace(endpoint), value: encodeRow(heard) }, ...outbox] },
      added,
    };
  }

  /** Rises with every report of this process, also when the clock does not. */
  #outboxKey(now: number, server: string): string {
    this.#lastOutboxKey = Math.max(now, this.#lastOutboxKey + 1 / 1024);
    return `${timeKey(this.#lastOutboxKey)}.${server}`;
  }

  async #heard(endpoint: string): Promise<HeardRow | undefined> {
    const [bytes] = await this.#backend.get([heardPlace(endpoint)]);
    return bytes === undefined ? undefined : decodeRow<HeardRow>(bytes);
  }
}

/** Readings as they came, and by which server and with which security. */
export interface IncomingReport {
  readonly records: readonly SenmlRecord[];
  /** The id of the server that heard the endpoint. */
  readonly server: string;
  readonly security?: DeviceSecurity;
}

/** `added`: the readings that were not known before. */
export interface PlannedChange {
  readonly change: Change;
  readonly added: readonly SenmlRecord[];
}
