import type { DpeServer } from "#server/index.js";
import type { Metrics } from "./metrics.js";

/** What the API acts on. */
export interface Operation {
  readonly server: DpeServer;
  readonly metrics: Metrics;
  /** Sockets of the API of the other processes on the same ports, by the id of their server. Default: none. */
  readonly neighbours?: ReadonlyMap<string, string>;
  /** What this server is, for people: what listens where, with which policy, on which store. */
  overview(): Promise<object>;
  /** Something failed that should not. */
  onFault(error: unknown): void;
}
