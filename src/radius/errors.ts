/** What is wrong with a RADIUS packet. `code` is API; the sentence is not. Its sender learns nothing of it. */
export class RadiusError extends Error {
  override readonly name = "RadiusError";
  readonly code: RadiusErrorCode;

  constructor(code: RadiusErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export type RadiusErrorCode =
  /** Its lengths do not fit, or an attribute's value does not have the attribute's form. */
  | "RADIUS_MALFORMED"
  /** Request Authenticator or Message-Authenticator: another secret, or changed on the way. */
  | "RADIUS_BAD_AUTHENTICATOR";
