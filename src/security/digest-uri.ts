import type { Options } from "#coap/index.js";

/** The digest-uri of a message: its path and query, composed as RFC 7252 §6.5 says. */
export function digestUri(options: Options): string {
  const path = options.uriPath.map((segment) => percentEncoded(segment, PATH_CHARACTERS)).join("/");
  const query = options.uriQuery.map((argument) => percentEncoded(argument, QUERY_CHARACTERS)).join("&");
  return `/${path}${options.uriQuery.length === 0 ? "" : `?${query}`}`;
}

function percentEncoded(text: string, plain: RegExp): string {
  let encoded = "";
  for (const byte of TEXT_ENCODER.encode(text)) {
    const character = String.fromCharCode(byte);
    encoded +=
      byte < 0x80 && plain.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}

/** RFC 7252 §6.5 step 6: unreserved, sub-delims, ":" and "@". */
const PATH_CHARACTERS = /[A-Za-z0-9\-._~!$&'()*+,;=:@]/;
/** Step 7: the same without "&", with "/" and "?". */
const QUERY_CHARACTERS = /[A-Za-z0-9\-._~!$'()*+,;=:@/?]/;
const TEXT_ENCODER = new TextEncoder();
