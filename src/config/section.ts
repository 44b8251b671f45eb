import * as z from "zod";
import { refuse } from "./refusal.js";

/** A mapping with exactly these keys: an unknown key is a fault, with the nearest known one. */
export function section<const Shape extends z.core.$ZodShape>(shape: Shape): z.ZodObject<Shape, z.core.$strict> {
  return z.strictObject(shape);
}

/** One of a few words; a wrong one is answered with all of them and the nearest. */
export function oneOf<const Word extends string>(
  ...words: readonly [Word, ...Word[]]
): z.ZodEnum<{ [Key in Word]: Key }> {
  return z.enum(words) as unknown as z.ZodEnum<{ [Key in Word]: Key }>;
}

/** A list; by default nothing may occur in it twice, since the lists of a configuration are choices in order. */
export function listOf<Item extends z.ZodType>(item: Item, options: ListOptions = {}): z.ZodArray<Item> {
  const list = z.array(item).min(options.minItems ?? 0);
  if (options.mayRepeat === true) return list;
  return list.superRefine((items, context) => {
    const seen = new Map<string, number>();
    items.forEach((value, index) => {
      if (typeof value === "object") return;
      const first = seen.get(String(value));
      if (first === undefined) seen.set(String(value), index);
      else refuse(context, { problem: `already item ${first} of this list` }, [index]);
    });
  });
}

export interface ListOptions {
  /** Default 0. */
  readonly minItems?: number;
  /** Default false: equal words, numbers or booleans are refused; mappings are never compared. */
  readonly mayRepeat?: boolean;
}

/** Text that is not empty and holds no control characters. */
export function text(): z.ZodType<string, unknown> {
  return z.codec(z.unknown(), z.string(), {
    decode: (value, context) => {
      // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
      if (typeof value === "string" && value !== "" && !/[\u0000-\u001f\u007f]/.test(value)) return value;
      refuse(context, { code: typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE", expected: "text" });
      return z.NEVER;
    },
    encode: (value) => value,
  });
}
