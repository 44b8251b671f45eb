import { encodeCbor } from "#cbor/index.js";
import { CODE, encodeProblemDetails, formatCode, OPTION, Options, type ResponseMessage } from "#coap/index.js";
import {
  AUTH_ERROR,
  type AuthErrorName,
  BINDING_OPTION,
  CONNECTION_LEVEL,
  CONTENT_FORMAT,
  type InterfaceName,
  SECURITY_REQUIRED_KEY,
} from "#dpe/index.js";
import { encodeChallenge, type ScopedChallenge } from "./digest-options.js";

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
  const code = error === "not-authorized" || error === "untrusted-identity" ? CODE.Forbidden : CODE.Unauthorized;
  let options = Options.none.with(BINDING_OPTION.AuthError, AUTH_ERROR[error]);
  if (hints.challenge !== undefined)
    options = options.with(BINDING_OPTION.DigestChallenge, encodeChallenge(hints.challenge));
  if (hints.securityRequired !== undefined) {
    const { port, interfaceName } = hints.securityRequired;
    const map = new Map<number, unknown>([
      [SECURITY_REQUIRED_KEY.level, CONNECTION_LEVEL.dtls],
      ...(port === undefined ? [] : [[SECURITY_REQUIRED_KEY.port, port] as const]),
      [SECURITY_REQUIRED_KEY.interface, interfaceName],
    ]);
    options = options.with(BINDING_OPTION.SecurityRequired, encodeCbor(map));
  }
  return problem(code, `${formatCode(code)} ${error}`, options);
}

export interface RefusalHints {
  readonly challenge?: ScopedChallenge;
  readonly securityRequired?: { readonly port: number | undefined; readonly interfaceName: InterfaceName };
}
