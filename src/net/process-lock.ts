import { closeSync, openSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { NetError } from "./net-error.js";

/**
 * A file that one living process at a time holds. That of a process that has ended (by its number and start time, in this
 * boot of the system) is taken over.
 */
export class ProcessLock {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** @throws NetError NET_STORE_LOCKED; system errors of the file. */
  static take(path: string): ProcessLock {
    for (let attempt = 0; ; attempt++) {
      try {
        const file = openSync(path, "wx", 0o600);
        writeSync(file, markOf(process.pid));
        closeSync(file);
        taken.add(path);
        return new ProcessLock(path);
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EEXIST") || attempt > 0) throw error;
        const held = readFileSync(path, "utf8");
        const pid = Number.parseInt(held, 10);
        if (pid !== process.pid && isAlive(pid) && held === markOf(pid)) {
          throw new NetError("NET_STORE_LOCKED", `${path}: process ${pid} uses this store`, { cause: error });
        }
        // Of this very process, it is one that was closed without release, or of its namesake before a restart.
        if (pid === process.pid && held === markOf(pid) && taken.has(path)) {
          throw new NetError("NET_STORE_LOCKED", `${path}: this process uses this store already`, { cause: error });
        }
        unlinkSync(path);
      }
    }
  }

  release(): void {
    taken.delete(this.#path);
    unlinkSync(this.#path);
  }
}

/** "pid boot start". */
function markOf(pid: number): string {
  return `${pid} ${bootId() ?? "unknown"} ${startTimeOf(pid) ?? "unknown"}`;
}

/** Tells this boot of the system from others; undefined where the system does not say. */
export function bootId(): string | undefined {
  return readText("/proc/sys/kernel/random/boot_id")?.trim();
}

/** Field 22 of /proc/PID/stat; the fields begin after the name in parentheses, which may hold anything. */
function startTimeOf(pid: number): string | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

const taken = new Set<string>();
