/** An error of the HTTP side. `code` is API; the sentence is not. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly code: HttpErrorCode;

  constructor(code: HttpErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export type HttpErrorCode = "HTTP_NO_TOKEN" | "HTTP_PORT_IN_USE" | "HTTP_SOCKET_FAILED" | "HTTP_SOCKET_IN_USE";
