import type { CoapError, CoapErrorCode } from "./errors.js";
import { CODE } from "./wire/code.js";

/** The code to answer a request with when this error keeps it from being served; a proxy's view where the error is of a further hop. */
export function responseCodeOf(error: CoapError): number {
  return RESPONSE_CODE[error.code];
}

const RESPONSE_CODE: Readonly<Record<CoapErrorCode, number>> = {
  COAP_BAD_OPTION: CODE.BadOption,
  COAP_BAD_URI: CODE.BadRequest,
  COAP_BLOCK_MISMATCH: CODE.RequestEntityIncomplete,
  COAP_BODY_TOO_LARGE: CODE.RequestEntityTooLarge,
  COAP_CANCELLED: CODE.ServiceUnavailable,
  COAP_FORMAT_ERROR: CODE.BadRequest,
  COAP_INVALID_MESSAGE: CODE.InternalServerError,
  COAP_LIMIT_REACHED: CODE.ServiceUnavailable,
  COAP_PEER_CLOSED: CODE.BadGateway,
  COAP_RESET: CODE.BadGateway,
  COAP_TIMEOUT: CODE.GatewayTimeout,
};
