import { messageOf } from "#errors/index.js";
import { AgentError } from "../agent-error.js";
import { readingsOf } from "./json-readings.js";
import { runProgram } from "./run-program.js";
import type { Source } from "./source.js";

/** The source `exec`: what a program prints, as JSON or as one number or word. It is run without a shell. */
export function execSource({ name, command, every, timeout, unit }: ExecOptions): Source {
  const closing = new AbortController();
  const limits = { timeoutMs: timeout, maxBytes: MAX_OUTPUT_BYTES, signal: closing.signal };
  return {
    name,
    everyMs: every,
    read: async () => {
      let output: string;
      try {
        output = await runProgram(command, limits);
      } catch (error) {
        const why = messageOf(error);
        throw new AgentError("AGENT_SOURCE_FAILED", `${name}: ${command[0] ?? ""}: ${why}`, { cause: error });
      }
      return readingsOf(output, name, unit);
    },
    close: () => Promise.resolve(closing.abort()),
  };
}

export interface ExecOptions {
  /** The property, or the start of the names of all that the program gives. */
  readonly name: string;
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** Ms. */
  readonly every: number;
  /** A program that takes longer is killed, ms. */
  readonly timeout: number;
  readonly unit?: string | undefined;
}

const MAX_OUTPUT_BYTES = 65_536;
