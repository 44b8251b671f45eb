import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The folder of the C library. */
export const FIRMWARE_BRIDGE: string = join(dirname(fileURLToPath(import.meta.url)), "../../..", "firmware-bridge");

/** Builds a target of its Makefile in a folder of its own below dist; gives that folder. A test file builds once. */
export async function built(target: string): Promise<{ readonly folder: string; readonly output: string }> {
  let running = builds.get(target);
  if (running === undefined) {
    running = build(target);
    builds.set(target, running);
  }
  return running;
}

const builds = new Map<string, Promise<{ readonly folder: string; readonly output: string }>>();

async function build(target: string): Promise<{ readonly folder: string; readonly output: string }> {
  const folder = join(FIRMWARE_BRIDGE, "../dist/firmware", target);
  mkdirSync(folder, { recursive: true });
  const { stdout } = await run("make", ["-s", "-C", FIRMWARE_BRIDGE, target, `BUILD=${folder}`]);
  writeFileSync(join(folder, "output"), stdout);
  return { folder, output: stdout };
}

const run = promisify(execFile);
