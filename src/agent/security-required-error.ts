import { SecurityError, type SecurityRequired } from "#security/index.js";

/** The server serves DPE-1 over DTLS only, and says where. On a plain connection it is a reason to try that, no failure. */
export class SecurityRequiredError extends SecurityError {
  readonly required: SecurityRequired;

  constructor(required: SecurityRequired) {
    super("SECURITY_AUTHENTICATION_REFUSED", "the server asks for DTLS", { authError: "security-required" });
    this.required = required;
  }
}
