import { resolve } from "node:path";
import * as z from "zod";
import { refuse } from "./refusal.js";
import { surroundings } from "./surroundings.js";

/** Where state is kept: a folder (relative to the configuration file), or `redis://HOST[:PORT][/DATABASE]`, or `rediss://…`. */
export function storeLocation(): z.ZodType<StoredAt, unknown> {
  return z.codec(z.unknown(), z.custom<StoredAt>(), {
    decode: (value, context): StoredAt => {
      if (typeof value === "string" && value !== "" && !value.includes("\0")) {
        if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(value))
          return { type: "lmdb", folder: resolve(surroundings().directory, value) };
        if (/^rediss?:\/\/[^/]/.test(value) && URL.canParse(value)) return { type: "redis", url: value };
      }
      refuse(context, {
        code: typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
        expected: "a folder, or redis://HOST:PORT",
      });
      return z.NEVER;
    },
    encode: (value) => (value.type === "lmdb" ? value.folder : value.url.replace(/\/\/[^@/]*@/, "//[secret]@")),
  });
}

export type StoredAt =
  | { readonly type: "lmdb"; readonly folder: string }
  | { readonly type: "redis"; readonly url: string };
