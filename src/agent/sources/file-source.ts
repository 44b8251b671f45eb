import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { codeOf, messageOf } from "#errors/index.js";
import { AgentError } from "../agent-error.js";
import { readingsOf } from "./json-readings.js";
import type { Source } from "./source.js";

/** The source `file`: what a file holds, such as a sensor of the kernel in /sys, as JSON or as one number or word. */
export function fileSource({ name, path, every, unit, scale }: FileOptions): Source {
  return {
    name,
    everyMs: every,
    read: async () => {
      const readings = readingsOf(await firstBytes(name, path), name, unit);
      if (scale === 1) return readings;
      return readings.map((reading) =>
        // Rounded, so that 21500 × 0.001 is 21.5.
        typeof reading.value === "number"
          ? { ...reading, value: Number((reading.value * scale).toPrecision(12)) }
          : reading,
      );
    },
  };
}

export interface FileOptions {
  readonly name: string;
  readonly path: string;
  /** Ms. */
  readonly every: number;
  readonly unit?: string | undefined;
  /** What numbers are multiplied by; 1 leaves them. */
  readonly scale: number;
}

/**
 * Read in one go: files of /sys and /proc have no size. They are regular files; whatever is not could keep a thread of libuv
 * waiting for ever, as an open without O_NONBLOCK does on a FIFO, and after four of them no file is read any more.
 */
async function firstBytes(name: string, path: string): Promise<string> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      const found = await file.stat();
      if (found.isDirectory()) throw Object.assign(new Error("a folder"), { code: "EISDIR" });
      if (!found.isFile()) throw new Error("this is a FIFO or a device, not a file");
      const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(MAX_FILE_BYTES) });
      return buffer.toString("utf8", 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = codeOf(error) ?? messageOf(error);
    throw new AgentError("AGENT_SOURCE_FAILED", `${name}: ${path}: ${REASONS[code] ?? code}`, { cause: error });
  }
}

const REASONS: Readonly<Partial<Record<string, string>>> = {
  ENOENT: "no such file",
  EACCES: "this user may not read it",
  EISDIR: "this is a folder, not a file",
  // A socket.
  ENXIO: "this is no file",
};
const MAX_FILE_BYTES = 65_536;
