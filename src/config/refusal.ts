import type { ConfigErrorCode } from "./error.js";

/**
 * Refuses a value from inside a schema (a codec, a transform or `superRefine`): the fault then has a code, what was
 * expected and a hint, where zod alone would only carry a sentence.
 * `path` is relative to the value being checked.
 */
export function refuse(context: RefusalContext, refusal: Refusal, path: readonly PropertyKey[] = []): void {
  context.issues.push({
    code: "custom",
    message: refusal.problem ?? `expected ${refusal.expected ?? "another value"}`,
    path: [...path],
    input: undefined,
    params: { [REFUSAL]: refusal },
  });
}

export interface Refusal {
  /** Default CONFIG_BAD_VALUE. */
  readonly code?: ConfigErrorCode;
  /** A whole statement of what is wrong. In a union, an alternative that states a problem is the one reported. */
  readonly problem?: string;
  readonly expected?: string;
  readonly hint?: string;
  /** True where the value found must not be shown. */
  readonly isConcealed?: boolean;
}

/** What zod hands to codecs, transforms and `superRefine`, as far as it is used here. */
export interface RefusalContext {
  readonly issues: unknown[];
}

/** The refusal that a zod issue's parameters carry, if one of ours raised it. */
export function refusalOf(params: Readonly<Record<PropertyKey, unknown>> | undefined): Refusal | undefined {
  return params?.[REFUSAL] as Refusal | undefined;
}

const REFUSAL: unique symbol = Symbol("refusal");
