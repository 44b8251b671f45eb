import type { AuthErrorName } from "#dpe/index.js";

/** An error of the security layer. `code` is API; the sentence is not. */
export class SecurityError extends Error {
  override readonly name = "SecurityError";
  readonly code: SecurityErrorCode;
  /** The authentication error that the peer answered with. */
  readonly authError: AuthErrorName | undefined;

  constructor(
    code: SecurityErrorCode,
    message: string,
    options?: { readonly cause?: unknown; readonly authError?: AuthErrorName },
  ) {
    super(message, { cause: options?.cause });
    this.code = code;
    this.authError = options?.authError;
  }
}

export type SecurityErrorCode =
  /** The peer refused us; `authError` says why. */
  | "SECURITY_AUTHENTICATION_REFUSED"
  /** A client did not prove at DPE-2 who it is; its response was discarded. */
  | "SECURITY_CLIENT_NOT_ACCEPTED"
  /** A described exchange has a word that is none of those that it may have. */
  | "SECURITY_BAD_EXCHANGE"
  /** A subscriber identity is of no known form, or its value does not have that form. */
  | "SECURITY_BAD_IDENTITY"
  /** A security option of the peer is not what the binding says. */
  | "SECURITY_BAD_OPTION"
  /** A pairing code is mistyped, or its URI is not one. */
  | "SECURITY_BAD_PAIRING_CODE"
  /** A request or answer of pairing is not what the binding says. */
  | "SECURITY_BAD_PAIRING_MESSAGE"
  /** Our own policy forbids to go on over this connection. */
  | "SECURITY_CONNECTION_BELOW_POLICY"
  /** The policy lists `external`, and nothing was given that vouches for anybody. */
  | "SECURITY_NO_EXTERNAL_IDENTITIES"
  /** The server did not pair this device, or did not renew its certificate. */
  | "SECURITY_PAIRING_REFUSED"
  /** The server could not prove that it knows our credential. */
  | "SECURITY_SERVER_NOT_ACCEPTED";
