import { formatIpPrefix, type IpPrefix, parseIpPrefix } from "#ip/index.js";
import * as z from "zod";
import { refuse } from "./refusal.js";

/** `192.0.2.0/24`, `2001:db8::/32`, or one address. */
export function ipPrefixBlock(): z.ZodType<IpPrefix, unknown> {
  return z.codec(z.unknown(), z.custom<IpPrefix>(), {
    decode: (value, context) => {
      const prefix = typeof value === "string" ? parseIpPrefix(value) : undefined;
      if (prefix !== undefined) return prefix;
      refuse(context, {
        code: typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
        expected: "an IP address, or a prefix such as 192.0.2.0/24 without bits after it",
      });
      return z.NEVER;
    },
    encode: formatIpPrefix,
  });
}
