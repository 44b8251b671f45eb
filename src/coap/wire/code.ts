/** CoAP codes (RFC 7252 §12.1, RFC 8132, RFC 7959, RFC 8516, RFC 8768) as their byte on the wire: class × 32 + detail. */
export const CODE = {
  Empty: 0x00,
  GET: 0x01,
  POST: 0x02,
  PUT: 0x03,
  DELETE: 0x04,
  FETCH: 0x05,
  PATCH: 0x06,
  iPATCH: 0x07,
  Created: 0x41,
  Deleted: 0x42,
  Valid: 0x43,
  Changed: 0x44,
  Content: 0x45,
  Continue: 0x5f,
  BadRequest: 0x80,
  Unauthorized: 0x81,
  BadOption: 0x82,
  Forbidden: 0x83,
  NotFound: 0x84,
  MethodNotAllowed: 0x85,
  NotAcceptable: 0x86,
  RequestEntityIncomplete: 0x88,
  Conflict: 0x89,
  PreconditionFailed: 0x8c,
  RequestEntityTooLarge: 0x8d,
  UnsupportedContentFormat: 0x8f,
  UnprocessableEntity: 0x96,
  TooManyRequests: 0x9d,
  InternalServerError: 0xa0,
  NotImplemented: 0xa1,
  BadGateway: 0xa2,
  ServiceUnavailable: 0xa3,
  GatewayTimeout: 0xa4,
  ProxyingNotSupported: 0xa5,
  HopLimitReached: 0xa8,
} as const;

export const METHODS = ["GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "iPATCH"] as const;
export type Method = (typeof METHODS)[number];

/** The byte as "c.dd", such as "2.05" (RFC 7252 §3). */
export function formatCode(code: number): string {
  return `${code >> 5}.${String(code & 0x1f).padStart(2, "0")}`;
}

/** The name of a request method's code, as it stands in a Digest calculation; undefined for any other code. */
export function methodName(code: number): Method | undefined {
  return METHODS[code - 1];
}

/** Whether the code is of a request (RFC 7252 §5: class 0, not Empty). */
export function isRequestCode(code: number): boolean {
  return code > 0 && code < 0x20;
}

/** Whether the code is of a response: class 2, 4 or 5. */
export function isResponseCode(code: number): boolean {
  const codeClass = code >> 5;
  return codeClass === 2 || codeClass === 4 || codeClass === 5;
}

/** Whether the code is of a response that tells of success: class 2. */
export function isSuccessCode(code: number): boolean {
  return code >> 5 === 2;
}
