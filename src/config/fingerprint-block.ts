import * as z from "zod";
import { refuse } from "./refusal.js";

/**
 * A fingerprint of a public key, as `dpe key` prints it: SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits, with colons
 * between the bytes or without, `sha256:` before them or not. Comes out in lower case without either.
 */
export function fingerprint(): z.ZodType<string, unknown> {
  return z.codec(z.unknown(), z.string(), {
    decode: (value, context) => {
      const digits = typeof value === "string" ? value.toLowerCase().replace(/^sha256:/, "") : "";
      if (/^([0-9a-f]{2}:?){31}[0-9a-f]{2}$/.test(digits)) return digits.replaceAll(":", "");
      refuse(context, { expected: "the fingerprint of a public key, 64 hexadecimal digits: `dpe key FILE` prints it" });
      return z.NEVER;
    },
    encode: (value: unknown) => value,
  });
}
