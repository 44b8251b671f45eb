import { existsSync } from "node:fs";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { UsageError } from "./exit.js";

/** One command of `dpe`: everything of it in one module, listed in `dpe.ts`. */
export interface Command {
  readonly name: string;
  /** The rest of its line in the usage after the name, such as `--config FILE`. */
  readonly synopsis: string;
  /** What it does, in a few words. */
  readonly summary: string;
  /** What `--help` says besides. */
  readonly help?: string;
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
  const usage = `usage: dpe ${command.name} ${command.synopsis}`.trimEnd();
  try {
    const parsed = parseArgs({ args: [...words], allowPositionals: true, options });
    const unexpected = parsed.positionals.slice(maxPositionals);
    if (unexpected.length > 0) throw new Error(`${unexpected.join(" ")} is not understood`);
    return parsed;
  } catch (error) {
    // Node's sentence goes on about positionals that begin with a dash.
    const [what] = (error instanceof Error ? error.message : String(error)).split(". To specify");
    throw new UsageError(`dpe ${command.name}: ${what}\n${usage}`);
  }
}

/**
 * The file of `--config`, for commands that take nothing else; `usual` is taken where it is there and none is named.
 *
 * @throws UsageError when it is missing.
 */
export function configFile(command: Command, words: readonly string[], usual?: string): string {
  const { config } = parseWords(command, words, { config: { type: "string" } }).values;
  return config ?? usualFile(command, usual);
}

/** @throws UsageError when it is not there. */
export function usualFile(command: Command, usual: string | undefined): string {
  if (usual !== undefined && existsSync(usual)) return usual;
  const why = usual === undefined ? "" : `: there is no ${usual} here`;
  throw new UsageError(`dpe ${command.name} needs --config FILE${why}`);
}
