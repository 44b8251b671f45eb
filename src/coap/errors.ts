/** Root of the errors of this layer. `code` is API; the sentence is not. */
export class CoapError extends Error {
  override readonly name = "CoapError";
  readonly code: CoapErrorCode;
  readonly fault: CoapFault;

  constructor(code: CoapErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.fault = FAULT_OF[code];
  }
}

export type CoapErrorCode =
  | "COAP_BAD_OPTION"
  | "COAP_BAD_URI"
  | "COAP_BLOCK_MISMATCH"
  | "COAP_BODY_TOO_LARGE"
  | "COAP_CANCELLED"
  | "COAP_FORMAT_ERROR"
  | "COAP_INVALID_MESSAGE"
  | "COAP_LIMIT_REACHED"
  | "COAP_PEER_CLOSED"
  | "COAP_RESET"
  | "COAP_TIMEOUT";

/** Who is to blame: the peer's bytes, the peer's absence, our caller, or a bound of our own. */
export type CoapFault = "peer-misbehaved" | "peer-unreachable" | "caller-misuse" | "local-limit";

const FAULT_OF: Readonly<Record<CoapErrorCode, CoapFault>> = {
  COAP_BAD_OPTION: "peer-misbehaved",
  COAP_BAD_URI: "caller-misuse",
  COAP_BLOCK_MISMATCH: "peer-misbehaved",
  COAP_BODY_TOO_LARGE: "local-limit",
  COAP_CANCELLED: "caller-misuse",
  COAP_FORMAT_ERROR: "peer-misbehaved",
  COAP_INVALID_MESSAGE: "caller-misuse",
  COAP_LIMIT_REACHED: "local-limit",
  COAP_PEER_CLOSED: "peer-unreachable",
  COAP_RESET: "peer-misbehaved",
  COAP_TIMEOUT: "peer-unreachable",
};
