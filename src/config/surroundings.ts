import { resolve } from "node:path";

/** What the values of a file refer to: the folder that relative paths start from, and the environment. */
export interface Surroundings {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Told of each other file that the configuration names, absolute. */
  readonly onFile?: ((file: string) => void) | undefined;
}

/**
 * Runs a synchronous `parse` while blocks such as `path()` and `secret()` see these surroundings. zod passes no
 * context of the caller's to a codec, so they are scoped dynamically; nesting restores the outer ones.
 */
export function withSurroundings<T>(surroundings: Surroundings, parse: () => T): T {
  const outer = current;
  current = surroundings;
  try {
    return parse();
  } finally {
    current = outer;
  }
}

/** The surroundings of the file being loaded; outside of a load, the working directory and the real environment. */
export function surroundings(): Surroundings {
  return current ?? { directory: resolve("."), environment: process.env };
}

let current: Surroundings | undefined;
