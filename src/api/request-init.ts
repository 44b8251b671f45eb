import {
  CODE,
  CoapError,
  encodeUint,
  METHODS,
  type Method,
  NO_PAYLOAD,
  NO_RESPONSE_AT_ALL,
  type Option,
  OPTION,
  Options,
  type RequestMessage,
} from "#coap/index.js";
import type { RequestOptions, StreamedBody } from "#net/index.js";
import { isStreamed } from "./streamed.js";

/** What a request says besides its URI; everything may be left out. */
export interface RequestInit extends Omit<RequestOptions, "signal"> {
  /** Default GET. */
  readonly method?: Method;
  /** A text is sent as UTF-8; an async iterable or a ReadableStream of bytes as it is read. */
  readonly payload?: Uint8Array | string | StreamedBody;
  /** The number of the payload's Content-Format, such as `CONTENT_FORMAT["application/cbor"]`. */
  readonly contentFormat?: number;
  /** The Content-Format wanted in return. */
  readonly accept?: number;
  /** ETags of representations held already: 2.03 Valid tells that one is still good. */
  readonly etags?: readonly Uint8Array[];
  /** The request is carried out only where the resource has one of these ETags; an empty one: where it exists at all. */
  readonly ifMatch?: readonly Uint8Array[];
  /** The request is carried out only where the resource does not exist. */
  readonly ifNoneMatch?: boolean;
  /** Default true. */
  readonly confirmable?: boolean;
  /** No response is wanted (RFC 7967): the promise is fulfilled with the code 0.00 when the request is sent. */
  readonly noResponse?: boolean;
  /** Default false. true: the name in the URI is looked up and not told to the server, as Uri-Host. */
  readonly omitsUriHost?: boolean;
  /** Further options as number and value. */
  readonly options?: readonly (readonly [number, Uint8Array | string | number])[];
  /** Ends the request with COAP_CANCELLED. */
  readonly signal?: AbortSignal;
  /** Default none but the protocol's own, some 93 s (MAX_TRANSMIT_WAIT). Ends the request with COAP_TIMEOUT; at most 24 days. */
  readonly timeoutMs?: number;
}

/** The message of a request. @throws CoapError COAP_INVALID_MESSAGE for an option that cannot be encoded. */
export function requestMessage(target: Options, init: RequestInit): RequestMessage {
  const { method = "GET", payload = NO_PAYLOAD, etags = [], ifMatch = [] } = init;
  if (!METHODS.includes(method)) throw new CoapError("COAP_INVALID_MESSAGE", `${String(method)} is no method`);
  // RFC 7252 §5.5
  const hasPayload = isStreamed(payload) || payload.length > 0;
  if ((method === "GET" || method === "DELETE") && hasPayload)
    throw new CoapError("COAP_INVALID_MESSAGE", `${method} has no payload`);
  const added: Option[] = [
    ...etags.map((value) => ({ number: OPTION.ETag, value })),
    ...ifMatch.map((value) => ({ number: OPTION.IfMatch, value })),
  ];
  const add = (number: number, value: Uint8Array | string | number | undefined): void => {
    if (value !== undefined) added.push({ number, value: bytesOf(value) });
  };
  add(OPTION.IfNoneMatch, init.ifNoneMatch === true ? new Uint8Array(0) : undefined);
  add(OPTION.ContentFormat, init.contentFormat);
  add(OPTION.Accept, init.accept);
  add(OPTION.NoResponse, init.noResponse === true ? NO_RESPONSE_AT_ALL : undefined);
  for (const [number, value] of init.options ?? []) add(number, value);
  return {
    code: CODE[method],
    options: Options.of([...(init.omitsUriHost === true ? target.without(OPTION.UriHost) : target), ...added]),
    payload: isStreamed(payload) ? NO_PAYLOAD : bytesOf(payload),
    isConfirmable: init.confirmable ?? true,
  };
}

function bytesOf(value: Uint8Array | string | number): Uint8Array {
  if (typeof value === "string") return new TextEncoder().encode(value);
  return typeof value === "number" ? encodeUint(value) : value;
}
