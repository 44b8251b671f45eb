/** What went wrong between the gateway and a microcontroller. The code is API, the sentence is not. */
export class BridgeError extends Error {
  override readonly name = "BridgeError";
  readonly code: BridgeErrorCode;

  constructor(code: BridgeErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

/**
 * | code | whose fault |
 * |---|---|
 * | BRIDGE_NO_PORT | local: the port is not there, may not be opened, or is in use |
 * | BRIDGE_AMBIGUOUS_PORT | the configuration's: several ports match |
 * | BRIDGE_BAD_PORT | the configuration's: not the name of a port |
 * | BRIDGE_DISCONNECTED | the wire's: it was closed, or nothing answers on it |
 * | BRIDGE_BAD_ANSWER | the firmware's: an answer that is none |
 * | BRIDGE_REFUSED | the firmware refused what was asked; the message has its code |
 * | BRIDGE_NOT_SUPPORTED | the caller's: this firmware or protocol cannot do that |
 */
export type BridgeErrorCode =
  | "BRIDGE_NO_PORT"
  | "BRIDGE_AMBIGUOUS_PORT"
  | "BRIDGE_BAD_PORT"
  | "BRIDGE_DISCONNECTED"
  | "BRIDGE_BAD_ANSWER"
  | "BRIDGE_REFUSED"
  | "BRIDGE_NOT_SUPPORTED";
