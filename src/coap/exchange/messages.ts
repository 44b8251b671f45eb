import type { Options } from "../wire/options.js";

/** A request of one message, as it is handed to `Endpoint.request`. */
export interface RequestMessage {
  readonly code: number;
  readonly options: Options;
  readonly payload: Uint8Array;
  /** Default true: Confirmable. */
  readonly isConfirmable?: boolean;
}

/** A response of one message. */
export interface ResponseMessage {
  readonly code: number;
  readonly options: Options;
  readonly payload: Uint8Array;
}

export const NO_PAYLOAD: Uint8Array = new Uint8Array(0);
