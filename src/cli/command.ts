import { existsSync, readFileSync } from "node:fs";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { messageOf } from "#errors/index.js";
import { describeFile, UsageError } from "./exit.js";

/** One command of `dpe`: everything of it in one module, listed in `dpe.ts`. */
export interface Command {
  readonly name: string;
  /** The rest of its line in the usage after the name, such as `--config FILE`. */
  readonly synopsis: string;
  /** What it does, in a few words. */
  readonly summary: string;
  /** What `--help` says of its options. */
  readonly help?: string;
  /** A line or more that can be typed as they stand, with what they are for after `#`. */
  readonly example: string;
  /** Where two commands have a name: its first word in the list of commands, such as `URI`. */
  readonly form?: string;
  /** Where two commands have a name: whether these words are for this one. Default: they are. */
  takes?(words: readonly string[]): boolean;
  /** Runs with the words after the name. @throws UsageError for words that it does not understand. */
  run(words: readonly string[]): Promise<void>;
}

type OptionTable = NonNullable<ParseArgsConfig["options"]>;
type Parsed<T extends OptionTable> = ReturnType<
  typeof parseArgs<{ args: string[]; allowPositionals: true; options: T }>
>;

/** The options and positionals of a command. @throws UsageError with the command's own line. */
export function parseWords<const T extends OptionTable>(
  command: Command,
  words: readonly string[],
  options: T,
  { maxPositionals = 0 }: { readonly maxPositionals?: number } = {},
): Parsed<T> {
  try {
    const parsed = parseArgs({ args: [...words], allowPositionals: true, options });
    const unexpected = parsed.positionals.slice(maxPositionals);
    if (unexpected.length > 0) throw new Error(`${unexpected.join(" ")} is not understood`);
    return parsed;
  } catch (error) {
    // Node's sentence goes on about positionals that begin with a dash.
    const [what = ""] = messageOf(error).split(". To specify");
    throw misuse(command, what);
  }
}

/** What is wrong with the words of a command, and its line of the usage. */
export function misuse(command: Command, what: string): UsageError {
  return new UsageError(`dpe ${command.name}: ${what}\n${usageOf(command)}`);
}

export function usageOf({ name, synopsis }: Command): string {
  return `usage: dpe ${name} ${synopsis}`.trimEnd();
}

/** What `dpe NAME --help` prints. */
export function helpOf(command: Command): string {
  const { summary, help, example, synopsis } = command;
  const parts = [
    usageOf(command),
    `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`,
    ...(help === undefined ? [] : [help]),
    ...(synopsis.includes("--control PATH") ? [CONTROL_HELP] : []),
    `example:\n${example.replaceAll(/^/gm, "  ")}`,
  ];
  return `${parts.join("\n\n")}\n`;
}

/**
 * The file of `--config`, for commands that take nothing else; one of the `usual` is taken where it is there and none is named.
 *
 * @throws UsageError when it is missing.
 */
export function configFile(command: Command, words: readonly string[], ...usual: readonly string[]): string {
  const { config } = parseWords(command, words, { config: { type: "string" } }).values;
  return config ?? usualFile(command, ...usual);
}

/** @throws UsageError when none is there, or more than one. */
export function usualFile(command: Command, ...usual: readonly string[]): string {
  const found = usual.filter((file) => existsSync(file));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const why = only === undefined ? `there is no ${usual.join(" or ")} here` : `${found.join(" and ")} are here`;
  const hint = only === undefined && usual.length === 1 ? (MADE_BY[usual[0] ?? ""] ?? "") : "";
  throw new UsageError(`dpe ${command.name} needs --config FILE: ${why}${hint}`);
}

/** What is in a file that a word names; `-` is standard input. @throws UsageError where it cannot be read. */
export function textOf(command: Command, file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new UsageError(`dpe ${command.name}: ${describeFile(error, file)}`);
  }
}

const MADE_BY: Readonly<Record<string, string>> = {
  "server.yaml": "; dpe init server makes one",
  "agent.yaml": "; dpe pair coaps://HOST CODE makes one, by a code that dpe pair shows on the server",
};
const CONTROL_HELP = `  --json          for programs: JSON, a value on a line
  --config FILE   the configuration of the server that is meant, where it sets control:
  --control PATH  that server's control socket itself; by default the one of this user's server`;
