import { execFile, type ExecFileException } from "node:child_process";
import { AgentError } from "../agent-error.js";
import { readingsOf } from "./json-readings.js";
import type { Source } from "./source.js";

/** The source `exec`: what a program prints, as JSON or as one number or word. It is run without a shell. */
export function execSource({ name, command, every, timeout, unit }: ExecOptions): Source {
  const [program = "", ...words] = command;
  return {
    name,
    everyMs: every,
    read: () =>
      new Promise((resolve, reject) => {
        const options = { timeout, maxBuffer: MAX_OUTPUT_BYTES, killSignal: "SIGKILL", windowsHide: true } as const;
        execFile(program, words, options, (error, stdout) => {
          if (error !== null) {
            const why = error.killed === true ? `not done after ${timeout} ms` : reasonOf(error);
            reject(new AgentError("AGENT_SOURCE_FAILED", `${name}: ${program}: ${why}`, { cause: error }));
            return;
          }
          try {
            resolve(readingsOf(stdout, name, unit));
          } catch (fault) {
            reject(fault instanceof Error ? fault : new Error(String(fault)));
          }
        });
      }),
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

function reasonOf(error: ExecFileException): string {
  if (error.code === "ENOENT") return "no such program";
  if (error.code === "EACCES") return "may not be run";
  return typeof error.code === "number" ? `ended with ${error.code}` : String(error.code ?? error.message);
}

const MAX_OUTPUT_BYTES = 65_536;
