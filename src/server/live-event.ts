import type { SenmlRecord } from "#senml/index.js";
import { decodeRow, type Store } from "#store/index.js";
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
  return store.backend.subscribe(LIVE_CHANNEL, (message) => listener(decodeRow<LiveEvent>(message)));
}

export function liveEventOf(
  event: Extract<ServerEvent, { readonly type: LiveEvent["type"] }>,
  server: string,
): LiveEvent {
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

export const LIVE_CHANNEL = "live";
