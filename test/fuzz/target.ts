import type fc from "fast-check";

/** Something to fuzz: plans of one kind, and a run of one that throws an Error where an invariant is broken. */
export interface FuzzTarget<Plan> {
  readonly name: string;
  readonly plans: fc.Arbitrary<Plan>;
  /** Runs a plan. Gives what came of it in a word or two: a plan with a new outcome is worth keeping. */
  run(plan: Plan): string;
}

/** @throws Error */
export function invariant(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`broken invariant: ${what}`);
}
