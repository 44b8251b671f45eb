import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { z } from "zod";
import { codeOf } from "#errors/index.js";
import { ConfigError, type ConfigFault } from "./error.js";
import { checkAgainst } from "./schema-faults.js";
import { withSurroundings } from "./surroundings.js";
import { readYaml } from "./yaml-source.js";

/**
 * Reads a YAML file and checks it against `schema`; the result is what the schema's blocks make of it.
 *
 * `file` is shown in messages as given here; relative paths in the file start from its folder. The schema must be
 * synchronous. Throws a `ConfigError` with every fault of the file, in the order of its lines.
 */
export function loadConfig<Schema extends z.ZodType>(
  file: string,
  schema: Schema,
  options: LoadOptions = {},
): z.output<Schema> {
  const { maxFileBytes } = { ...DEFAULT_LOAD_OPTIONS, ...options };
  return parseConfig(readConfigFile(file, maxFileBytes), file, schema, options);
}

/** As `loadConfig`, on text that is at hand; `file` names it in messages and gives the folder of relative paths. */
export function parseConfig<Schema extends z.ZodType>(
  text: string,
  file: string,
  schema: Schema,
  options: LoadOptions = {},
): z.output<Schema> {
  const { environment, maxFaults } = { ...DEFAULT_LOAD_OPTIONS, environment: process.env, ...options };
  const source = readYaml(text, file);
  if (source.value === undefined) throw errorOf(file, source.faults, maxFaults);
  const around = { directory: resolve(dirname(file)), environment, onFile: options.onFile };
  const checked = withSurroundings(around, () => checkAgainst(schema, source, file));
  const faults = [...source.faults, ...checked.faults];
  if (faults.length > 0) throw errorOf(file, faults, maxFaults);
  return checked.value as z.output<Schema>;
}

export interface LoadOptions {
  /** Where `env:NAME` is looked up. Default: the environment of the process. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** The largest file that is read, in bytes. Default 1048576; YAML of many MB takes seconds and much memory. */
  readonly maxFileBytes?: number;
  /** Told of each other file that is named, absolute: secrets, certificates. Default: nobody. */
  readonly onFile?: (file: string) => void;
  /** The most faults that are listed; one more line counts the others. Default 100. */
  readonly maxFaults?: number;
}

export const DEFAULT_LOAD_OPTIONS: Readonly<Required<Pick<LoadOptions, "maxFileBytes" | "maxFaults">>> = {
  maxFileBytes: 1_048_576,
  maxFaults: 100,
};

function errorOf(file: string, faults: readonly ConfigFault[], maxFaults: number): ConfigError {
  const inOrder = faults.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
  const [first, ...others] = inOrder.slice(0, Math.max(1, maxFaults));
  const left = inOrder.length - 1 - others.length;
  if (first === undefined) throw new TypeError("a ConfigError needs a fault");
  if (left === 0) return new ConfigError(first, ...others);
  const rest = { code: "CONFIG_TOO_MANY_FAULTS", file, keyPath: "", problem: `${left} more faults` } as const;
  return new ConfigError(first, ...others, rest);
}

function readConfigFile(file: string, maxFileBytes: number): string {
  const refuse = (fault: Pick<ConfigFault, "code" | "problem" | "hint" | "line" | "column">): ConfigError =>
    new ConfigError({ ...fault, file, keyPath: "" });
  let bytes: Uint8Array;
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, "r");
    const stat = fstatSync(descriptor);
    if (stat.size > maxFileBytes) {
      throw refuse({ code: "CONFIG_FILE_TOO_LARGE", problem: `the file has more than ${maxFileBytes} bytes` });
    }
    bytes = readFileSync(descriptor);
  } catch (error) {
    throw error instanceof ConfigError ? error : refuse(readFault(error));
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const before = new TextDecoder().decode(bytes).split("\u{fffd}", 1)[0] ?? "";
    const line = before.split("\n").length;
    const column = before.length - before.lastIndexOf("\n");
    throw refuse({ code: "CONFIG_SYNTAX", line, column, problem: "the file is not UTF-8 text" });
  }
}

/** Why a configuration file could not be read, from the error of the file system. */
export function readFault(error: unknown): Pick<ConfigFault, "code" | "problem" | "hint"> {
  const code = codeOf(error) ?? String(error);
  switch (code) {
    case "ENOENT":
      return { code: "CONFIG_FILE_MISSING", problem: "no such file" };
    case "EACCES":
    case "EPERM":
      return { code: "CONFIG_FILE_UNREADABLE", problem: "this user may not read the file" };
    case "EISDIR":
      return { code: "CONFIG_FILE_UNREADABLE", problem: "this is a folder, not a file" };
    default:
      return { code: "CONFIG_FILE_UNREADABLE", problem: `the file cannot be read (${code})` };
  }
}
