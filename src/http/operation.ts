import type { DpeServer } from "#server/index.js";
import type { Metrics } from "./metrics.js";

/** What the API acts on. */
export interface Operation {
  readonly server: DpeServer;
  readonly metrics: Metrics;
  /** What this server is, for people: what listens where, with which policy, on which store. */
  overview(): Promise<object>;
  /** Something failed that should not. */
  onFault(error: unknown): void;
}
