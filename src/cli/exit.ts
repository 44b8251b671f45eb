import { AgentError } from "#agent/index.js";
import { ConfigError } from "#config/index.js";
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
  return error instanceof SecurityError ? EXIT.authentication : EXIT.failure;
}

/** An error as one line for a person, with its code where it has one. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  if (error instanceof ConfigError || error instanceof UsageError || code === undefined) return error.message;
  return `${error.message} (${code})`;
}
