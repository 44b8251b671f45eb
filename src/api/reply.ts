import {
  CODE,
  CONTENT_FORMAT,
  encodeProblemDetails,
  encodeText,
  encodeUint,
  isSuccessCode,
  OPTION,
  type Option,
  Options,
  type ProblemDetails,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import type { ObservableResponse, StreamedBody } from "#net/index.js";
import { isStreamed } from "./streamed.js";

/**
 * What a handler answers: a text (text/plain), bytes, nothing, or a reply in full. The code is by default 2.05 for GET and
 * FETCH, 2.02 for DELETE, and 2.04 for the others; nothing at all is 4.04 to GET and FETCH.
 */
export type HandlerResult = Reply | string | Uint8Array | StreamedBody | undefined;

export interface Reply {
  /** As its byte, such as `CODE.Created`. */
  readonly code?: number;
  /** A streamed body (an async iterable of bytes, such as a ReadableStream) is read as its blocks are asked for. */
  readonly payload?: Uint8Array | string | StreamedBody;
  /** Default text/plain for a text, else none. */
  readonly contentFormat?: number;
  /** 1 to 8 bytes. A request that holds this one is answered by 2.03 Valid. */
  readonly etag?: Uint8Array;
  readonly maxAgeSeconds?: number;
  /** The path of what was created, such as "/reg/17". */
  readonly location?: string;
  readonly options?: readonly (readonly [number, Uint8Array | string | number])[];
  /** Makes the answer observable: is given what sends a newer state, and returns what stops that. */
  readonly observe?: (notify: (state: HandlerResult) => void) => () => void;
}

/** Thrown by a handler: the request is answered with this code and problem details (RFC 9290). */
export class ResponseError extends Error {
  override readonly name = "ResponseError";
  readonly code = "COAP_RESPONSE_ERROR";
  readonly responseCode: number;
  readonly problem: ProblemDetails;

  constructor(responseCode: number, problem: ProblemDetails | string = {}) {
    const details = typeof problem === "string" ? { title: problem } : problem;
    super(typeof details.title === "string" ? details.title : "the request is answered by an error");
    this.responseCode = responseCode;
    this.problem = details;
  }
}

/** The message of a handler's result. @throws CoapError COAP_INVALID_MESSAGE for an option that cannot be encoded. */
export function responseOf(request: RequestMessage, result: HandlerResult): ObservableResponse {
  if (typeof result === "string")
    return { code: defaultCode(request.code), options: PLAIN_TEXT, payload: encodeText(result) };
  const reply = isPayload(result) ? { payload: result } : result;
  if (reply === undefined && isReading(request.code)) return { ...NOTHING, code: CODE.NotFound };
  const {
    code = defaultCode(request.code),
    payload,
    contentFormat,
    etag,
    maxAgeSeconds,
    location,
    observe,
  } = reply ?? {};
  const options: Option[] = [];
  const add = (number: number, value: Uint8Array | string | number | undefined): void => {
    if (value !== undefined) options.push({ number, value: bytesOf(value) });
  };
  // RFC 7252 §5.10.6.2: ETags of a request have a meaning where it reads.
  const isValid =
    code === CODE.Valid ||
    (code === CODE.Content && etag !== undefined && isReading(request.code) && holds(request, etag));
  add(OPTION.ETag, etag);
  add(OPTION.MaxAge, maxAgeSeconds);
  const format = contentFormat ?? (typeof payload === "string" ? CONTENT_FORMAT["text/plain"] : undefined);
  if (!isValid && payload !== undefined) add(OPTION.ContentFormat, format);
  for (const segment of location?.split("/").filter((part) => part !== "") ?? []) add(OPTION.LocationPath, segment);
  for (const [number, value] of reply?.options ?? []) add(number, value);
  const answered = isValid ? CODE.Valid : code;
  const all = Options.of(options);
  if (isStreamed(payload)) {
    // What is not sent is not read either.
    if (isValid) void payload[Symbol.asyncIterator]().return?.();
    const head = { code: answered, options: all, payload: NOTHING.payload };
    return isValid ? head : { ...head, body: payload };
  }
  const body = isValid || payload === undefined ? NOTHING.payload : bytesOf(payload);
  if (observe === undefined) return { code: answered, options: all, payload: body };
  return {
    code: answered,
    options: all,
    payload: body,
    observe: (notify) =>
      observe((state) => {
        const next = responseOf(request, state);
        // RFC 7641 §4.2: a state that cannot be told in the first one's format ends the observation.
        const isOther = isSuccessCode(next.code) && next.options.contentFormat !== all.contentFormat;
        notify(isOther ? { ...NOTHING, code: CODE.NotAcceptable } : next);
      }),
  };
}

/** The message of an error that a handler threw. */
export function errorResponse(error: ResponseError): ResponseMessage {
  const { responseCode: code } = error;
  if (Object.keys(error.problem).length === 0) return { ...NOTHING, code };
  // RFC 9290 §2: a response-code in it is the response's own.
  const problem = error.problem.responseCode === undefined ? error.problem : { ...error.problem, responseCode: code };
  const format = CONTENT_FORMAT["application/concise-problem-details+cbor"];
  return {
    code,
    options: Options.none.with(OPTION.ContentFormat, format),
    payload: encodeProblemDetails(problem),
  };
}

/**
 * Checks If-Match and If-None-Match (RFC 7252 §5.10.8) against the resource's ETag; undefined: it does not exist. For
 * handlers of a server whose option `understands` names these options.
 *
 * @throws ResponseError 4.12 Precondition Failed.
 */
export function checkPreconditions(request: RequestMessage, etag: Uint8Array | undefined): void {
  const wanted = request.options.getAll(OPTION.IfMatch);
  const isMatch = wanted.some((one) => etag !== undefined && (one.length === 0 || isSame(one, etag)));
  const isAbsent = !request.options.has(OPTION.IfNoneMatch) || etag === undefined;
  if ((wanted.length > 0 && !isMatch) || !isAbsent) throw new ResponseError(CODE.PreconditionFailed);
}

/**
 * Picks the representation that the request's Accept asks for, that of the lowest number where it asks for none.
 *
 * @throws ResponseError 4.06 Not Acceptable.
 */
export function negotiate(
  request: RequestMessage,
  representations: Readonly<Record<number, () => Reply["payload"]>>,
): Reply {
  const { accept } = request.options;
  const formats = Object.keys(representations).map(Number);
  const contentFormat = accept ?? formats[0];
  const represent = contentFormat === undefined ? undefined : representations[contentFormat];
  if (contentFormat === undefined || represent === undefined) throw new ResponseError(CODE.NotAcceptable);
  const payload = represent();
  return { contentFormat, ...(payload === undefined ? {} : { payload }) };
}

function isPayload(result: Exclude<HandlerResult, string>): result is Uint8Array | StreamedBody {
  return result instanceof Uint8Array || isStreamed(result);
}

function holds(request: RequestMessage, etag: Uint8Array): boolean {
  return request.options.getAll(OPTION.ETag).some((one) => isSame(one, etag));
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function isReading(code: number): boolean {
  return code === CODE.GET || code === CODE.FETCH;
}

function defaultCode(method: number): number {
  if (isReading(method)) return CODE.Content;
  return method === CODE.DELETE ? CODE.Deleted : CODE.Changed;
}

function bytesOf(value: Uint8Array | string | number): Uint8Array {
  if (typeof value === "string") return encodeText(value);
  return typeof value === "number" ? encodeUint(value) : value;
}

const PLAIN_TEXT = Options.none.with(OPTION.ContentFormat, CONTENT_FORMAT["text/plain"]);
const NOTHING: ResponseMessage = { code: CODE.Empty, options: Options.none, payload: new Uint8Array(0) };
