import { CODE, NO_PAYLOAD, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";

/**
 * What one peer does not want to be asked for a while: it answered 4.29 (RFC 8516). Until its Max-Age has passed, requests of
 * the same method for the same path get that answer again, and are not sent.
 */
export class PutOff {
  readonly #answers = new Map<string, { readonly response: ResponseMessage; readonly until: number }>();

  /** The answer to a request that is not to be sent; its Max-Age is what is left of it. */
  answerTo(request: RequestMessage, now: number): ResponseMessage | undefined {
    const key = keyOf(request);
    const answer = this.#answers.get(key);
    if (answer === undefined) return undefined;
    const seconds = Math.ceil((answer.until - now) / 1000);
    if (seconds > 0) return { ...answer.response, options: answer.response.options.with(OPTION.MaxAge, seconds) };
    this.#answers.delete(key);
    return undefined;
  }

  /** Takes note of a response. */
  learn(request: RequestMessage, response: ResponseMessage, now: number): void {
    if (response.code !== CODE.TooManyRequests) return;
    const seconds = Math.min(response.options.maxAge ?? DEFAULT_MAX_AGE_SECONDS, MAX_SECONDS);
    const key = keyOf(request);
    this.#answers.delete(key);
    this.#answers.set(key, { response: kept(response), until: now + seconds * 1000 });
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= MAX_ANSWERS) return;
      this.#answers.delete(oldest);
    }
  }
}

function keyOf({ code, options }: RequestMessage): string {
  return [code, options.uriHost ?? "", ...options.uriPath, ...options.strings(OPTION.ProxyUri)].join("\n");
}

/** A copy, without what belongs to the one exchange. */
function kept({ code, options, payload }: ResponseMessage): ResponseMessage {
  const bytes = payload.length <= MAX_PAYLOAD_BYTES ? Uint8Array.from(payload) : NO_PAYLOAD;
  return { code, options: Options.of([...options.without(OPTION.Block1, OPTION.Block2)]), payload: bytes };
}

/** RFC 7252 §5.10.5 */
const DEFAULT_MAX_AGE_SECONDS = 60;
/** Nobody is put off for more than a day. */
const MAX_SECONDS = 24 * 3600;
const MAX_ANSWERS = 32;
const MAX_PAYLOAD_BYTES = 1024;
