import * as z from "zod";
import { refuse } from "./refusal.js";

/** A whole number within bounds. */
export function integer(options: IntegerOptions = {}): z.ZodType<number, unknown> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = options;
  return z.codec(z.unknown(), z.number(), {
    decode: (value, context) => {
      if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
      const bounds = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
      refuse(context, {
        code: typeof value === "number" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
        expected: `a whole number ${bounds}`,
      });
      return z.NEVER;
    },
    encode: (value) => value,
  });
}

export interface IntegerOptions {
  /** Default 0. */
  readonly min?: number;
  /** Default: no limit. */
  readonly max?: number;
}
