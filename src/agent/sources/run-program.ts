import { type ChildProcess, spawn } from "node:child_process";

/**
 * What a program prints, run without a shell and without input. It is the first of a process group of its own: where it must
 * end, all that it has started ends with it. Rejected with an Error that says why there is nothing.
 */
export function runProgram(
  [program = "", ...words]: readonly string[],
  { timeoutMs, maxBytes, signal }: RunLimits,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { detached: true, stdio: ["ignore", "pipe", "ignore"], windowsHide: true });
    const chunks: Buffer[] = [];
    let bytes = 0;
    let fault: string | undefined;
    const end = (why: string): void => {
      fault ??= why;
      endGroup(child);
    };
    const onAbort = (): void => end("no longer wanted");
    const timer = setTimeout(() => end(`not done after ${timeoutMs} ms`), timeoutMs);
    signal.addEventListener("abort", onAbort, { once: true });
    child.stdout.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxBytes) end(`it prints more than ${maxBytes} bytes`);
      else chunks.push(chunk);
    });
    const settled = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    };
    child.once("error", (error: Error & { readonly code?: string }) => {
      settled();
      reject(new Error(REASONS[error.code ?? ""] ?? error.code ?? error.message, { cause: error }));
    });
    child.once("close", (code, by) => {
      settled();
      if (fault === undefined && code === 0) resolve(Buffer.concat(chunks).toString());
      else reject(new Error(fault ?? `ended with ${code ?? by}`));
    });
  });
}

export interface RunLimits {
  /** A program that takes longer is ended, ms. */
  readonly timeoutMs: number;
  /** One that prints more is ended. */
  readonly maxBytes: number;
  /** Ends it. */
  readonly signal: AbortSignal;
}

function endGroup(child: ChildProcess): void {
  // Whoever left the group may still hold it open.
  child.stdout?.destroy();
  try {
    if (child.pid === undefined || process.platform === "win32") child.kill("SIGKILL");
    else process.kill(-child.pid, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}

const REASONS: Readonly<Partial<Record<string, string>>> = { ENOENT: "no such program", EACCES: "may not be run" };
