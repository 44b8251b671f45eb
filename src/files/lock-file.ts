import { linkSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";

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
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        try {
          linkSync(own, path);
          return new LockFile(path, isInherited);
        } catch (error) {
          if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
        }
        const held = read(path);
        const [pid = ""] = held.split(" ");
        if (isHeldBy(held)) throw refusal(`process ${pid}`);
        takeAway(path, held);
        isInherited ||= held !== "";
      }
    } finally {
      remove(own);
    }
    throw refusal("another process");
  }

  /** Whether a process that runs holds it. */
  static isHeld(path: string): boolean {
    return isHeldBy(read(path));
  }

  release(): void {
    remove(this.#path);
  }
}

/** Removes what a process left that runs no more, unless another has put its own in that place meanwhile. */
function takeAway(path: string, left: string): void {
  const aside = `${path}.${process.pid}.left`;
  try {
    renameSync(path, aside);
    if (read(aside) !== left) linkSync(aside, path);
  } catch {
    // Another process was first.
  }
  remove(aside);
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
    return error instanceof Error && "code" in error && error.code === "EPERM";
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

const ATTEMPTS = 5;
