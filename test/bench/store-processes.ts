import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { StoreLocation } from "#store/index.js";
import { DPE } from "#testing/dpe-program.js";
import { freePort } from "#testing/free-port.js";
import { firstLine, spawnPinned } from "./servers.js";
import { IDENTITY, KEY } from "./workload.js";

/** `dpe server` on a core of its own, as it is installed. */
export interface RunningServer {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly coaps: number;
  readonly http: string;
  readonly startedMs: number;
}

/** Everything of one run; gone at its end. */
export const folder: string = mkdtempSync(join(tmpdir(), "dpe-bench-store-"));
/** The same in memory, where an fsync costs nothing; undefined where the system has none. */
export const memoryFolder: string | undefined = existsSync("/dev/shm")
  ? mkdtempSync("/dev/shm/dpe-bench-store-")
  : undefined;
process.once("exit", () => {
  for (const one of [folder, memoryFolder])
    if (one !== undefined) rmSync(one, { recursive: true, force: true, maxRetries: 5 });
});

/** `more` are further lines of its configuration. */
export async function startServer(location: StoreLocation, ...more: readonly string[]): Promise<RunningServer> {
  const file = join(folder, "server.yaml");
  const store = location.type === "lmdb" ? location.folder : location.type === "redis" ? location.url : "";
  const yaml = `
store: ${store}
control: none
http: { port: 0 }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: ${IDENTITY}, key: "hex:${Buffer.from(KEY).toString("hex")}" }, endpoints: ["*"] }]
${more.join("\n")}
`;
  await writeFile(file, yaml, { mode: 0o600 });
  const startedAt = performance.now();
  const child = spawnPinned("0", process.execPath, [DPE, "server", "--config", file]);
  const line = await printed(child, '"msg":"listening"');
  const startedMs = performance.now() - startedAt;
  const { coaps, http } = JSON.parse(line) as { readonly coaps: string; readonly http: string };
  return {
    child,
    pid: child.pid ?? 0,
    coaps: Number(coaps.split(":").at(-1)),
    http: http.split(",")[0] ?? "",
    startedMs,
  };
}

/** On the other core. */
export async function startRedis(fsync: "always" | "no"): Promise<string> {
  const port = await freePort();
  const place = await mkdtemp(join(folder, "redis-"));
  const listening = ["--bind", "127.0.0.1", "--port", String(port), "--dir", place, "--save", ""];
  const child = spawnPinned("1", "redis-server", [...listening, "--appendonly", "yes", "--appendfsync", fsync]);
  await printed(child, "Ready to accept connections");
  return `redis://127.0.0.1:${port}`;
}

/** mosquitto on the other core, once it listens. */
export async function startBroker(port: number): Promise<ChildProcess> {
  const file = join(folder, "mosquitto.conf");
  await writeFile(file, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n`);
  const child = spawnPinned("1", MOSQUITTO, ["-c", file]);
  while (!(await listens(port))) {
    if (child.exitCode !== null) throw new Error(`mosquitto ended with ${child.exitCode}`);
    await sleep(50);
  }
  return child;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("error", () => resolve(false));
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/** Whether a program is there. */
export function has(program: string, ...options: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(program, options, { stdio: "ignore" });
    child.once("error", () => resolve(false));
    child.once("exit", () => resolve(true));
  });
}

/** What the loader found of reports: see `coap-load.c`. */
export interface ReportLoad {
  readonly perSecond: number;
  /** Of one processor, all threads of the server. */
  readonly cpuShare: number;
  readonly cpuMicroseconds: number;
  /** The median, 90 %, 99 % and the longest, ms. */
  readonly latencyMs: readonly [number, number, number, number];
  /** The share of the time in which the loader did not run. */
  readonly loaderIdle: number;
  readonly retransmissions: number;
}

/** Reports of so many devices, `perSecond` of all together, or (0) each as soon as its last one is answered. */
export async function loadReports(
  { pid, coaps }: RunningServer,
  load: { readonly devices: number; readonly perSecond: number; readonly warmUp: number; readonly seconds: number },
): Promise<ReportLoad> {
  const target = ["-p", String(coaps), "-s", "psk", "-u", IDENTITY, "-k", KEY, "-P", String(pid)];
  const amount = ["-n", String(load.devices), "-R", String(load.perSecond), "-w", String(load.warmUp)];
  const child = spawnPinned("1", LOADER, ["report", ...target, ...amount, "-t", String(load.seconds)]);
  const found = JSON.parse(await firstLine(child)) as LoaderOutput;
  return {
    perSecond: found.count / found.seconds,
    cpuShare: found.serverCpuSeconds / found.seconds,
    cpuMicroseconds: (1e6 * found.serverCpuSeconds) / found.count,
    latencyMs: found.latencyMs,
    loaderIdle: found.idle,
    retransmissions: found.retransmissions,
  };
}

/** A counter or gauge of a server, without labels. */
export async function metric({ http }: RunningServer, name: string): Promise<number> {
  const text = await (await fetch(`${http}/metrics`)).text();
  const [, value] = new RegExp(`^${name} (\\S+)$`, "m").exec(text) ?? [];
  if (value === undefined) throw new Error(`there is no metric ${name}`);
  return Number(value);
}

export async function end(child: ChildProcess): Promise<void> {
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await exited;
}

/** Processor time of all threads, ms: proc(5). */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

export function residentBytes(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}

/** The line of its output that has `expected`. */
function printed(child: ChildProcess, expected: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    const onExit = (code: number | null): void =>
      reject(new Error(`${child.spawnargs.join(" ")} ended with ${code}: ${output}`));
    child.once("exit", onExit);
    child.stdout?.on("data", (data: Buffer) => {
      output += data.toString();
      const line = output.split("\n").find((one) => one.includes(expected));
      if (line === undefined) return;
      child.stdout?.removeAllListeners("data").resume();
      child.off("exit", onExit);
      resolve(line);
    });
  });
}

interface LoaderOutput {
  readonly count: number;
  readonly seconds: number;
  readonly retransmissions: number;
  readonly idle: number;
  readonly serverCpuSeconds: number;
  readonly latencyMs: readonly [number, number, number, number];
}

export const MOSQUITTO = "/usr/sbin/mosquitto";
const LOADER = fileURLToPath(new URL("../../bench/coap-load", import.meta.url));
