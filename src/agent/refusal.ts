import { DtlsError, NetError } from "#net/index.js";
import { SecurityError } from "#security/index.js";
import { X509Error } from "#x509/index.js";

/** An error that only a person can mend: the server refuses us, we refuse the server, or our own files do not serve. */
export function refusalOf(error: unknown): Error | undefined {
  if (error instanceof SecurityError || error instanceof X509Error) return error;
  if (error instanceof NetError && error.code === "NET_NOT_ACCEPTED")
    return new SecurityError("SECURITY_SERVER_NOT_ACCEPTED", error.message, { cause: error });
  if (error instanceof NetError && error.code === "NET_ALERT_RECEIVED")
    return new SecurityError("SECURITY_AUTHENTICATION_REFUSED", error.message, { cause: error });
  if (!(error instanceof DtlsError)) return undefined;
  const { receivedAlert } = error;
  const isRefusal =
    error.code === "DTLS_CERTIFICATE_REFUSED" ||
    (receivedAlert !== undefined && AUTHENTICATION_ALERTS.has(receivedAlert));
  if (!isRefusal) return undefined;
  const message = receivedAlert === undefined ? error.message : `the server refused the handshake: ${receivedAlert}`;
  return new SecurityError(
    receivedAlert === undefined ? "SECURITY_SERVER_NOT_ACCEPTED" : "SECURITY_AUTHENTICATION_REFUSED",
    message,
    { cause: error },
  );
}

/**
 * Whether a refusal came of a handshake that was not completed: by an alert, or a certificate, of anybody on the path, be it
 * one forged datagram.
 */
export function isUnproven(error: unknown): boolean {
  return refusalOf(error) !== undefined && !(error instanceof SecurityError || error instanceof X509Error);
}

/** Which refusals an agent gets over: those that nobody has proven, always once it was registered, else the first ones. */
export class Refusals {
  #wasRegistered = false;
  #inARow = 0;

  registered(): void {
    this.#wasRegistered = true;
    this.#inARow = 0;
  }

  /**
   * To be asked once for each. Certificates are not valid yet, or any more, by a clock that is wrong; the former passes with
   * time, as on a device whose clock stood still while it was off.
   */
  mayPass(error: unknown, isClockTrusted: boolean): boolean {
    this.#inARow += 1;
    if (!isUnproven(error)) return false;
    return this.#wasRegistered || !isClockTrusted || isTooEarly(error) || this.#inARow < MAX_FIRST_REFUSALS;
  }
}

/** By the verdict on a certificate, which the error of the handshake has as its cause. */
function isTooEarly(error: unknown): boolean {
  const verdict: unknown = error instanceof Error ? error.cause : undefined;
  return typeof verdict === "object" && verdict !== null && "cause" in verdict && verdict.cause === "not-yet-valid";
}

/** Within some seconds, so that a credential that was mistyped is told of soon. */
const MAX_FIRST_REFUSALS = 3;

/** RFC 5246 §7.2.2, RFC 4279 §2: the other side does not accept our credential. */
const AUTHENTICATION_ALERTS: ReadonlySet<string> = new Set([
  "access_denied",
  "bad_certificate",
  "certificate_expired",
  "certificate_unknown",
  "decrypt_error",
  "unknown_ca",
  "unknown_psk_identity",
  "unsupported_certificate",
]);
