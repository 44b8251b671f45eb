import { FLEET_COUNTS, type FleetCount, type FleetReport } from "./fleet-figures.js";

/** Something that a run must have come to, such as `dropped=0`, `reports>=1000` or `p99<=200`. */
export interface Expectation {
  readonly text: string;
  /** What was found instead; undefined where it holds. */
  faultIn(report: FleetReport, unsent: number): string | undefined;
}

/** @throws Error for what is no expectation, with those that there are. */
export function parseExpectation(text: string): Expectation {
  const [, name = "", comparison = "", number = ""] = /^([a-zA-Z0-9]+)(<=|>=|=|<|>)([0-9.]+)$/.exec(text) ?? [];
  const valueOf = VALUES.get(name);
  const compare = COMPARISONS[comparison];
  if (valueOf === undefined || compare === undefined) {
    const names = [...VALUES.keys()].join(", ");
    throw new Error(`${text} is no expectation: it is a name, one of = < > <= >=, and a number; names are ${names}`);
  }
  return {
    text,
    faultIn: (report, unsent) => {
      const found = valueOf(report, unsent);
      return found !== null && compare(found, Number(number))
        ? undefined
        : `${text} does not hold: ${name} is ${found}`;
    },
  };
}

const counted = (name: FleetCount): [string, ValueOf] => [name, (report) => report.counts[name]];
type ValueOf = (report: FleetReport, unsent: number) => number | null;

const VALUES: ReadonlyMap<string, ValueOf> = new Map<string, ValueOf>([
  ...FLEET_COUNTS.map(counted),
  // What a device read and the server did not acknowledge, when all had their time to.
  ["lost", (report, unsent) => report.counts.dropped + unsent],
  ["errors", (report) => Object.values(report.errors).reduce((sum, count) => sum + count, 0)],
  ["p50", (report) => report.latencyMs.p50],
  ["p90", (report) => report.latencyMs.p90],
  ["p99", (report) => report.latencyMs.p99],
  ["max", (report) => report.latencyMs.max],
]);

const COMPARISONS: Readonly<Record<string, (found: number, wanted: number) => boolean>> = {
  "=": (found, wanted) => found === wanted,
  "<": (found, wanted) => found < wanted,
  ">": (found, wanted) => found > wanted,
  "<=": (found, wanted) => found <= wanted,
  ">=": (found, wanted) => found >= wanted,
};
