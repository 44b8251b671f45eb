import type { StreamedBody } from "#net/index.js";
import type { HandlerResult } from "./reply.js";
import type { Parameters } from "./router.js";
import type { CoapRequest } from "./serve.js";

/**
 * A handler that reads the request's body as it comes, by `for await (const piece of request.body)`: bodies of any length,
 * of which one block is in memory. Each block is acknowledged when the loop asks for what follows, so that a slow handler
 * slows its client down. Where the client does not go on the loop throws, COAP_TIMEOUT or COAP_PEER_CLOSED. What is still to
 * come when the handler returns is dropped, and refused where it returned an error. A streamed response may be returned when
 * the body has been read, or fits in one block: transfers go one way at a time.
 */
export function streamed(handler: StreamedRoute["streamed"]): StreamedRoute {
  return { streamed: handler };
}

export interface StreamedRoute {
  readonly streamed: (request: CoapRequest, parameters: Parameters) => HandlerResult | Promise<HandlerResult>;
}

export function isStreamed(value: unknown): value is StreamedBody {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

/** A body that is whole already. */
export async function* streamOf(payload: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (payload.length > 0) yield await Promise.resolve(payload);
}
