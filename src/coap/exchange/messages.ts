import { Options } from "../wire/options.js";

/** A request of one message, as it is handed to `Endpoint.request`. */
export interface RequestMessage {
  readonly code: number;
  readonly options: Options;
  readonly payload: Uint8Array;
  /** Default true: Confirmable. */
  readonly isConfirmable?: boolean;
  /**
   * Default false. true: any number of responses is taken, each an output `response`, until the exchange is cancelled, and
   * NSTART does not hold the request back: its sender paces itself (RFC 9177).
   */
  readonly hasManyResponses?: boolean;
}

/** A response of one message. */
export interface ResponseMessage {
  readonly code: number;
  readonly options: Options;
  readonly payload: Uint8Array;
}

export const NO_PAYLOAD: Uint8Array = new Uint8Array(0);

/** A response with no payload. */
export function emptyResponse(code: number, options: Options = Options.none): ResponseMessage {
  return { code, options, payload: NO_PAYLOAD };
}
