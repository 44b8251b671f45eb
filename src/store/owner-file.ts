import { closeSync, openSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { StoreError } from "./errors.js";

/** Says which process writes to a folder. One left by a process that ended without warning is taken over. */
export class OwnerFile {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** @throws StoreError STORE_IN_USE. */
  static take(path: string): OwnerFile {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      try {
        const descriptor = openSync(path, "wx", 0o600);
        writeSync(descriptor, `${process.pid} ${startOf(process.pid) ?? ""}\n`);
        closeSync(descriptor);
        return new OwnerFile(path);
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      }
      const [pid = "", start = ""] = read(path).trim().split(" ");
      if (isRunning(Number(pid), start))
        throw new StoreError("STORE_IN_USE", `the store is in use by process ${pid} (${path})`);
      remove(path);
    }
    throw new StoreError("STORE_IN_USE", `the store is being opened by another process (${path})`);
  }

  release(): void {
    remove(this.#path);
  }
}

/** The same process, not a later one with its number: Linux tells when each was started. */
function isRunning(pid: number, start: string): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  const now = startOf(pid);
  if (now !== undefined && start !== "") return now === start;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Boot and start time of a process, where /proc says; proc(5): the 22nd field, after the name in parentheses. */
function startOf(pid: number): string | undefined {
  const fields = read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ");
  const ticks = fields?.[19];
  return ticks === undefined ? undefined : `${read("/proc/sys/kernel/random/boot_id").trim()}:${ticks}`;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Another process removed it first.
  }
}

const ATTEMPTS = 5;
