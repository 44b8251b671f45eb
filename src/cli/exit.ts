import type { DtlsErrorCode } from "#net/index.js";

/** The command line is wrong; the message says what it should be. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** 0 ok, 1 failure, 2 usage or configuration, 3 authentication error. */
export const EXIT = { failure: 1, usage: 2, authentication: 3 } as const;

/** Ends the process with what went wrong in one line (a configuration: a line for each fault), never a stack trace. */
export function exitWith(error: unknown): never {
  const said = describe(error);
  process.stderr.write(/^(dpe|usage:) /.test(said) ? `${said}\n` : `dpe: ${said}\n`);
  process.exit(exitCodeOf(error));
}

/** Ends the process that cannot write; whoever has read enough, as `head` does, is told nothing. */
export function exitOfOutput(error: Error): never {
  if (codeOf(error) === "EPIPE") process.exit(EXIT.failure);
  exitWith(error);
}

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof Error)) return EXIT.failure;
  if (OF_USAGE.has(error.name) || USAGE_CODES.has(codeOf(error) ?? "")) return EXIT.usage;
  return isAuthenticationError(error) ? EXIT.authentication : EXIT.failure;
}

const USAGE_CODES: ReadonlySet<string> = new Set([
  "AGENT_STORE_FAILED",
  "SECURITY_BAD_PAIRING_CODE",
  // Another start would change nothing.
  "STORE_DAMAGED",
  "STORE_NEWER_SCHEMA",
]);

/** Whether one side has refused who the other is: by its certificate, its key, or what it proved. */
function isAuthenticationError(error: Error): boolean {
  const code = codeOf(error) ?? "";
  if (code === "DTLS_ALERT_RECEIVED")
    return REFUSING_ALERTS.has("receivedAlert" in error ? String(error.receivedAlert) : "");
  if (code === "NET_ALERT_RECEIVED")
    return REFUSING_ALERTS.has(/the handshake: (.*)$/.exec(error.message)?.[1]?.replaceAll(" ", "_") ?? "");
  return code === "NET_NOT_ACCEPTED" || REFUSING_CODES.has(code) || error.name === "SecurityError";
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
  const code = codeOf(error);
  if (SAYS_ALL.has(error.name) || code === undefined) return error.message;
  if ("path" in error && typeof error.path === "string" && "syscall" in error) return describeFile(error, error.path);
  return `${error.message} (${code})`;
}

/** An error of the system about a file. */
export function describeFile(error: unknown, file: string): string {
  const code = error instanceof Error ? codeOf(error) : undefined;
  return code === undefined ? `${file}: ${String(error)}` : `${file}: ${FILE_ERRORS[code] ?? code} (${code})`;
}

const FILE_ERRORS: Readonly<Partial<Record<string, string>>> = {
  EACCES: "this user may not use it",
  EEXIST: "is there already, and stays as it is",
  EISDIR: "this is a folder, not a file",
  ENOENT: "no such file or folder",
  ENOSPC: "the disk is full",
  ENOTDIR: "a part of its path is a file, not a folder",
  EPERM: "not permitted",
  EROFS: "the disk is read-only",
};

/** By name, so that telling an error loads no module that has not thrown one. */
const OF_USAGE: ReadonlySet<string> = new Set(["UsageError", "ConfigError", "X509Error"]);
const SAYS_ALL: ReadonlySet<string> = new Set(["UsageError", "ConfigError"]);

function codeOf(error: Error): string | undefined {
  return "code" in error && typeof error.code === "string" ? error.code : undefined;
}
