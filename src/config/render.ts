import { stringify } from "yaml";
import type { z } from "zod";
import { Secret } from "./secret.js";

/**
 * The effective configuration as YAML, defaults included: durations, URIs and the like as one writes them, paths
 * absolute, every secret as `[secret]`. The schema is the one that `value` was loaded with.
 *
 * Where the schema holds a transform of the caller's that cannot be turned round, the values are shown as they are
 * (durations in ms); secrets are masked either way.
 */
export function renderConfig<Schema extends z.ZodType>(schema: Schema, value: z.output<Schema>): string {
  const encoded = encode(schema, value);
  return stringify(plain(encoded === undefined ? value : encoded), { lineWidth: 0, aliasDuplicateObjects: false });
}

function encode(schema: z.ZodType, value: unknown): unknown {
  try {
    const result = schema.safeEncode(value);
    return result.success ? result.data : undefined;
  } catch {
    // zod throws ZodEncodeError for a one-way transform.
    return undefined;
  }
}

/** Data that YAML can show: the secrets masked once more, for the values that were not encoded. */
function plain(value: unknown): unknown {
  if (value instanceof Secret) return value.toString();
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value !== "object" || value === null) return typeof value === "function" ? undefined : value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, plain(item)]),
  );
}
