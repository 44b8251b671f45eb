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
