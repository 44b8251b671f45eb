import { accessSync, constants, statSync } from "node:fs";
import { resolve } from "node:path";
import * as z from "zod";
import { refuse } from "./refusal.js";
import { surroundings } from "./surroundings.js";

/** A path of the file system, resolved against the folder of the configuration file; the value is absolute. */
export function path(options: PathOptions = {}): z.ZodType<string, unknown> {
  return z.codec(z.unknown(), z.string(), {
    decode: (value, context) => {
      if (typeof value !== "string" || value === "" || value.includes("\0")) {
        refuse(context, {
          code: typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
          expected: "a path",
        });
        return z.NEVER;
      }
      const absolute = resolve(surroundings().directory, value);
      if (options.isReadableFile === true) surroundings().onFile?.(absolute);
      const problem = options.isReadableFile === true ? unreadable(absolute) : undefined;
      if (problem !== undefined) {
        refuse(context, { problem });
        return z.NEVER;
      }
      return absolute;
    },
    encode: (value) => value,
  });
}

export interface PathOptions {
  /** Refuse, while loading, what is not a file that this process may read. Default false. */
  readonly isReadableFile?: boolean;
}

function unreadable(absolute: string): string | undefined {
  const stat = statSync(absolute, { throwIfNoEntry: false });
  if (stat === undefined) return `the file ${absolute} does not exist`;
  if (!stat.isFile()) return `${absolute} is not a file`;
  try {
    accessSync(absolute, constants.R_OK);
    return undefined;
  } catch {
    return `the file ${absolute} may not be read by this user`;
  }
}
