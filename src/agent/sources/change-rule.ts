import type { SenmlValue } from "#senml/index.js";
import type { Importance } from "../queue/outbox.js";
import type { Reading } from "./source.js";

/** Which of the readings of a property are reported. */
export interface ChangeRule {
  /** Property names, with `*` for any characters. */
  readonly match: string;
  /** Default 0: a number that moved by no more than this since it was last reported is not reported. In the property's unit. */
  readonly deadBand: number;
  /** Default 0: changes within this time after a report are held back, ms. The first reading after it is compared anew. */
  readonly minInterval: number;
  /** Default 5 minutes: a value is reported again after this time though it did not change, ms. */
  readonly maxInterval: number;
  /** Default normal. */
  readonly importance: Importance;
}

export const DEFAULT_CHANGE_RULE: ChangeRule = {
  match: "*",
  deadBand: 0,
  minInterval: 0,
  maxInterval: 300_000,
  importance: "normal",
};

/** Picks what is to be reported of each reading, by the first rule that matches its name. */
export class ChangeFilter {
  readonly #rules: readonly (readonly [RegExp, ChangeRule])[];
  readonly #reported = new Map<string, { readonly value: SenmlValue; readonly atMs: number }>();

  constructor(rules: readonly ChangeRule[]) {
    this.#rules = [...rules, DEFAULT_CHANGE_RULE].map((rule) => [patternOf(rule.match), rule]);
  }

  /** `nowMs` is of a clock that never goes back. */
  select(readings: readonly Reading[], nowMs: number): readonly PickedReading[] {
    return readings.flatMap(({ kind, ...reading }) => {
      const rule = this.#ruleOf(reading.name);
      const last = this.#reported.get(reading.name);
      const isStatic = kind === "static";
      if (last !== undefined && !isDue(rule, last.value, reading.value, isStatic ? 0 : nowMs - last.atMs)) return [];
      this.#reported.set(reading.name, { value: reading.value, atMs: nowMs });
      // The first value of a static property goes with the registration.
      if (isStatic) return last === undefined ? [] : [{ ...reading, importance: rule.importance }];
      return [{ ...reading, importance: rule.importance, updateTimeSeconds: rule.maxInterval / 1000 }];
    });
  }

  #ruleOf(name: string): ChangeRule {
    for (const [pattern, rule] of this.#rules) if (pattern.test(name)) return rule;
    return DEFAULT_CHANGE_RULE;
  }
}

export type PickedReading = Omit<Reading, "kind"> & {
  readonly importance: Importance;
  /** The longest time until it is reported again; absent for what is reported only when it changes. */
  readonly updateTimeSeconds?: number;
};

function isDue(rule: ChangeRule, before: SenmlValue, now: SenmlValue, sinceMs: number): boolean {
  if (sinceMs >= rule.maxInterval) return true;
  if (sinceMs > 0 && sinceMs < rule.minInterval) return false;
  if (typeof before === "number" && typeof now === "number") return Math.abs(now - before) > rule.deadBand;
  if (before instanceof Uint8Array && now instanceof Uint8Array)
    return before.length !== now.length || before.some((byte, index) => byte !== now[index]);
  return before !== now;
}

function patternOf(match: string): RegExp {
  const escaped = match.split("*").map((part) => part.replaceAll(/[.+?^${}()|[\]\\/]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`);
}
