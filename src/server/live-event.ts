import type { SenmlRecord } from "#senml/index.js";
import { decodeRow, encodeRow, type Store } from "#store/index.js";
import type { ServerEvent } from "./server-event.js";

/** What happens to the fleet, as it is told to whoever follows it, whichever server of the store it happened at. */
export interface LiveEvent {
  readonly type: "registered" | "report" | "gone";
  readonly endpoint: string;
  readonly subscriber?: string;
  /** Where it happened: see `Store.server`. */
  readonly server: string;
  /** ms since 1970. */
  readonly at: number;
  /** The readings of a report that were new. */
  readonly records?: readonly SenmlRecord[];
  readonly cause?: string;
}

/** Calls `listener` for each event from now on; returns what ends that. */
export function followFleet(store: Store, listener: (event: LiveEvent) => void): Promise<() => void> {
  return store.backend.subscribe(LIVE_CHANNEL, (message) => {
    for (const event of decodeRow<readonly LiveEvent[]>(message)) listener(event);
  });
}

/** Tells whoever follows the fleet, at any server of the store: all that one turn of the event loop brings in one message. */
export class LiveFeed {
  readonly #store: Store;
  #events: LiveEvent[] = [];

  constructor(store: Store) {
    this.#store = store;
  }

  tell(event: FleetEvent): void {
    if (this.#events.push(liveEventOf(event, this.#store.server)) > 1) return;
    setImmediate(() => {
      const events = this.#events;
      this.#events = [];
      this.#store.backend.publish(LIVE_CHANNEL, () => encodeRow(events));
    });
  }
}

type FleetEvent = Extract<ServerEvent, { readonly type: LiveEvent["type"] }>;

function liveEventOf(event: FleetEvent, server: string): LiveEvent {
  const { endpoint, subscriber } = event.registration;
  return {
    type: event.type,
    endpoint,
    server,
    ...(subscriber === undefined ? {} : { subscriber }),
    at: Date.now(),
    ...(event.type === "report" ? { records: event.records } : {}),
    ...(event.type === "gone" ? { cause: event.cause } : {}),
  };
}

const LIVE_CHANNEL = "live";
