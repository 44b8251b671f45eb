import { refuse, text } from "#config/index.js";
import {
  formatSubscriberIdentity,
  parseSubscriberIdentity,
  SecurityError,
  type SubscriberIdentity,
} from "#security/index.js";
import * as z from "zod";

/** `FORM:VALUE`, such as `imsi:001010123456789`; in canonical form once read. */
export function subscriberIdentityBlock(): z.ZodType<SubscriberIdentity, unknown> {
  return z.codec(text(), z.custom<SubscriberIdentity>(), {
    decode: (value, context) => {
      try {
        return parseSubscriberIdentity(value);
      } catch (error) {
        if (!(error instanceof SecurityError)) throw error;
        refuse(context, { problem: error.message });
        return z.NEVER;
      }
    },
    encode: formatSubscriberIdentity,
  });
}
