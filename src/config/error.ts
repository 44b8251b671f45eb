/**
 * One or more faults of a configuration file. `message` has one line for each fault, in the order of the file; the
 * fields are those of the first. No line ever holds a secret. The fault is always the operator's.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly faults: readonly ConfigFault[];
  readonly code: ConfigErrorCode;
  readonly file: string;
  readonly line: number | undefined;
  readonly column: number | undefined;
  readonly keyPath: string;
  readonly expected: string | undefined;
  readonly found: string | undefined;
  readonly hint: string | undefined;

  constructor(first: ConfigFault, ...others: readonly ConfigFault[]) {
    super([first, ...others].map(formatFault).join("\n"));
    this.faults = [first, ...others];
    this.code = first.code;
    this.file = first.file;
    this.line = first.line;
    this.column = first.column;
    this.keyPath = first.keyPath;
    this.expected = first.expected;
    this.found = first.found;
    this.hint = first.hint;
  }
}

/** One fault. Lines and columns count from 1; without them the fault is the whole file's. */
export interface ConfigFault {
  readonly code: ConfigErrorCode;
  /** The file as the caller named it. */
  readonly file: string;
  readonly line?: number | undefined;
  readonly column?: number | undefined;
  /** `subscribers[1].psk.key`; empty for the document itself. */
  readonly keyPath: string;
  /** What is wrong, where "expected … found …" does not say it all. */
  readonly problem?: string | undefined;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
  /** What to do. */
  readonly hint?: string | undefined;
}

export const CONFIG_ERROR_CODES = [
  "CONFIG_FILE_MISSING",
  "CONFIG_FILE_UNREADABLE",
  "CONFIG_FILE_TOO_LARGE",
  "CONFIG_EMPTY",
  "CONFIG_SYNTAX",
  "CONFIG_DUPLICATE_KEY",
  "CONFIG_ALIAS_LIMIT",
  "CONFIG_UNKNOWN_KEY",
  "CONFIG_MISSING_KEY",
  "CONFIG_WRONG_TYPE",
  "CONFIG_BAD_VALUE",
  "CONFIG_SECRET_MISSING",
  "CONFIG_SECRET_EXPOSED",
  "CONFIG_TOO_MANY_FAULTS",
] as const;

export type ConfigErrorCode = (typeof CONFIG_ERROR_CODES)[number];

/** The fault in one line: `server.yaml:12:5 interfaces.dpe1.conection: unknown key; did you mean "connection"?` */
export function formatFault(fault: ConfigFault): string {
  const position = fault.line === undefined ? "" : `:${fault.line}:${fault.column ?? 1}`;
  const where = `${fault.file}${position}${fault.keyPath === "" ? "" : ` ${fault.keyPath}`}`;
  const parts = [
    fault.problem,
    fault.expected === undefined ? undefined : `expected ${fault.expected}`,
    fault.found === undefined ? undefined : `found ${fault.found}`,
    fault.hint,
  ];
  const line = `${where}: ${parts.filter((part) => part !== undefined).join("; ")}`;
  // What a file holds must not move a terminal's cursor or forge a line of a log.
  return line.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (mark) => `\\u{${mark.codePointAt(0)?.toString(16) ?? ""}}`);
}
