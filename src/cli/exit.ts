import { AgentError } from "#agent/index.js";
import { ConfigError } from "#config/index.js";
import { DtlsError, type DtlsErrorCode, NetError } from "#net/index.js";
import { SecurityError } from "#security/index.js";
import { X509Error } from "#x509/index.js";

/** The command line is wrong; the message says what it should be. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** 0 ok, 1 failure, 2 usage or configuration, 3 authentication error. */
export const EXIT = { failure: 1, usage: 2, authentication: 3 } as const;

/** Ends the process with what went wrong in one line (a configuration: a line for each fault), never a stack trace. */
export function exitWith(error: unknown): never {
  process.stderr.write(`dpe: ${describe(error)}\n`);
  process.exit(exitCodeOf(error));
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError || error instanceof ConfigError || error instanceof X509Error) return EXIT.usage;
  if (error instanceof AgentError && error.code === "AGENT_STORE_FAILED") return EXIT.usage;
  return isAuthenticationError(error) ? EXIT.authentication : EXIT.failure;
}

/** Whether one side has refused who the other is: by its certificate, its key, or what it proved. */
function isAuthenticationError(error: unknown): boolean {
  if (error instanceof DtlsError) {
    if (error.code === "DTLS_ALERT_RECEIVED") return REFUSING_ALERTS.has(error.receivedAlert ?? "");
    return REFUSING_CODES.has(error.code);
  }
  if (error instanceof NetError) {
    const alert = /the handshake: (.*)$/.exec(error.message)?.[1]?.replaceAll(" ", "_") ?? "";
    return error.code === "NET_NOT_ACCEPTED" || (error.code === "NET_ALERT_RECEIVED" && REFUSING_ALERTS.has(alert));
  }
  return error instanceof SecurityError;
}

/** A wrong key shows as a record that cannot be read: bad_record_mac or decrypt_error (RFC 4279 §2). */
const REFUSING_ALERTS: ReadonlySet<string> = new Set([
  "bad_record_mac",
  "bad_certificate",
  "unsupported_certificate",
  "certificate_revoked",
  "certificate_expired",
  "certificate_unknown",
  "unknown_ca",
  "access_denied",
  "decrypt_error",
  "unknown_psk_identity",
]);
const REFUSING_CODES: ReadonlySet<string> = new Set([
  "DTLS_BAD_FINISHED",
  "DTLS_BAD_SIGNATURE",
  "DTLS_BAD_CERTIFICATE",
  "DTLS_CERTIFICATE_REFUSED",
  "DTLS_CLIENT_CERTIFICATE_REQUIRED",
  "DTLS_UNKNOWN_PSK_IDENTITY",
  "DTLS_UNSUPPORTED_CERTIFICATE",
  "DTLS_WRONG_PSK",
] satisfies DtlsErrorCode[]);

/** An error as one line for a person, with its code where it has one. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  if (error instanceof ConfigError || error instanceof UsageError || code === undefined) return error.message;
  return `${error.message} (${code})`;
}
