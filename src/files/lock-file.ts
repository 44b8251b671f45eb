import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { codeOf } from "#errors/index.js";
import { linkFile } from "./link-file.js";

/**
 * A file that one running process at a time holds. One left by a process that ended without warning is taken over.
 */
export class LockFile {
  /** Whether the last holder ended without warning. */
  readonly isInherited: boolean;
  readonly #path: string;

  private constructor(path: string, isInherited: boolean) {
    this.#path = path;
    this.isInherited = isInherited;
  }

  /** @throws what `refusal` makes of the process that holds it; errors of the file system. */
  static take(path: string, refusal: (holder: string) => Error): LockFile {
    let isInherited = false;
    // Whole before it has its name: nobody finds one that says nothing yet.
    const own = `${path}.${process.pid}`;
    writeFileSync(own, `${process.pid} ${startOf(process.pid) ?? ""}\n`, { mode: 0o600 });
    try {
      for (let attempt = 0; !linkFile(own, path); attempt++) {
        const held = read(path);
        const [pid = ""] = held.split(" ");
        if (isHeldBy(held)) throw refusal(`process ${pid}`);
        if (attempt >= ATTEMPTS) throw refusal("another process");
        if (removeLeft(path, own)) isInherited ||= held !== "";
        else Atomics.wait(NOBODY, 0, 0, PAUSE_MS);
      }
      return new LockFile(path, isInherited);
    } finally {
      remove(own);
    }
  }

  /** Whether a process that runs holds it. */
  static isHeld(path: string): boolean {
    return isHeldBy(read(path));
  }

  release(): void {
    remove(this.#path);
  }
}

/**
 * Removes what a process left that runs no more. One process at a time looks once more and removes: else a slow one would remove
 * the mark of whoever was faster. False where another is at it.
 */
function removeLeft(path: string, own: string): boolean {
  const turn = `${path}.turn`;
  if (!linkFile(own, turn)) {
    if (!isHeldBy(read(turn))) remove(turn);
    return false;
  }
  if (!isHeldBy(read(path))) remove(path);
  remove(turn);
  return true;
}

function isHeldBy(mark: string): boolean {
  const [pid = "", start = ""] = mark.trim().split(" ");
  return isRunning(Number(pid), start);
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
    return codeOf(error) === "EPERM";
  }
}

/** Boot and start time of a process, where /proc says; proc(5): the 22nd field, after the name in parentheses. */
function startOf(pid: number): string | undefined {
  const fields = read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ");
  const ticks = fields?.[19];
  return ticks === undefined ? undefined : `${bootId() ?? ""}:${ticks}`;
}

/** Tells this boot of the system from others; undefined where the system does not say. */
export function bootId(): string | undefined {
  return read("/proc/sys/kernel/random/boot_id").trim() || undefined;
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

/** For a second: what others do meanwhile takes far less than a millisecond. */
const ATTEMPTS = 100;
const PAUSE_MS = 10;
const NOBODY = new Int32Array(new SharedArrayBuffer(4));
