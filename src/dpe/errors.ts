/** An error of the DPE operations. `code` is API; the sentence is not. */
export class DpeError extends Error {
  override readonly name = "DpeError";
  readonly code: DpeErrorCode;
  /** The peer asked not to be asked again before so long (RFC 8516, RFC 7252 §5.9.3.4). */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: DpeErrorCode,
    message: string,
    options?: { readonly cause?: unknown; readonly retryAfterMs?: number | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }
}

export type DpeErrorCode =
  | "DPE_BAD_ENDPOINT_NAME"
  | "DPE_BAD_REQUEST"
  | "DPE_LIFETIME_OUT_OF_RANGE"
  | "DPE_NAME_TAKEN"
  /** What is asked for is not the subscriber's to tell, by its configuration. */
  | "DPE_NOT_ALLOWED"
  | "DPE_NOT_REACHABLE"
  /** Pairing would take the place of a subscriber that is banned. */
  | "DPE_SUBSCRIBER_BANNED"
  | "DPE_SUBSCRIBER_CONFIGURED"
  | "DPE_SUBSCRIBER_EXISTS"
  | "DPE_TOO_MANY_CODES"
  | "DPE_TOO_MANY_PROPERTIES"
  | "DPE_TOO_MANY_REGISTRATIONS"
  | "DPE_TOO_MANY_REQUESTS"
  | "DPE_UNKNOWN_REGISTRATION"
  | "DPE_UNKNOWN_SUBSCRIBER"
  | "DPE_UNSUPPORTED_FORMAT";
