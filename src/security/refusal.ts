import { CODE, encodeProblemDetails, formatCode, OPTION, Options, type ResponseMessage } from "#coap/index.js";
import { AUTH_ERROR, type AuthErrorName, BINDING_OPTION, CONTENT_FORMAT } from "#dpe/index.js";
import { encodeChallenge, type ScopedChallenge } from "./digest-options.js";
import { encodeSecurityRequired, type SecurityRequired } from "./security-required.js";

/** A response with concise problem details (RFC 9290). */
export function problem(code: number, title: string, options: Options = Options.none): ResponseMessage {
  return {
    code,
    options: options.with(OPTION.ContentFormat, CONTENT_FORMAT.problemDetailsCbor),
    payload: encodeProblemDetails({ title }),
  };
}

/** The authentication error of a refused request, with what the client needs to do better. */
export function refusal(error: AuthErrorName, hints: RefusalHints = {}): ResponseMessage {
  const code = CODE_OF[error] ?? CODE.Unauthorized;
  let options = Options.none.with(BINDING_OPTION.AuthError, AUTH_ERROR[error]);
  if (hints.maxAgeSeconds !== undefined) options = options.with(OPTION.MaxAge, hints.maxAgeSeconds);
  if (hints.challenge !== undefined)
    options = options.with(BINDING_OPTION.DigestChallenge, encodeChallenge(hints.challenge));
  if (hints.securityRequired !== undefined)
    options = options.with(BINDING_OPTION.SecurityRequired, encodeSecurityRequired(hints.securityRequired));
  return problem(code, `${formatCode(code)} ${error}`, options);
}

export interface RefusalHints {
  readonly challenge?: ScopedChallenge;
  /** When to try again. */
  readonly maxAgeSeconds?: number;
  readonly securityRequired?: SecurityRequired;
}

const CODE_OF: Readonly<Partial<Record<AuthErrorName, number>>> = {
  "not-authorized": CODE.Forbidden,
  "untrusted-identity": CODE.Forbidden,
  "server-not-accepted": CODE.Forbidden,
  "too-many-failures": CODE.TooManyRequests,
};
