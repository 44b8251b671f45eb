import { execFileSync } from "node:child_process";

/**
 * Runs a module where no file may grow beyond so many KiB: a write that would is cut there and calls that a success, and the
 * next one fails, as on a disk that fills up. Gives what it printed.
 */
export function withRoomFor(kibibytes: number, module: string): string {
  const script = `ulimit -f ${kibibytes}; exec "$0" --input-type=module --eval "$1"`;
  return execFileSync("bash", ["-c", script, process.execPath, module], { encoding: "utf8", timeout: 60_000 });
}
