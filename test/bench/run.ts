import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/**
 * Measures our server against its peers within one run, each server on one core and the load on another, and prints a
 * Markdown table of medians and ratios. `--quick` takes shorter and fewer samples.
 */
const isQuick = process.argv.includes("--quick");
const SECONDS = isQuick ? 1 : 3;
const REPETITIONS = isQuick ? 1 : 3;
const IDLE_SESSIONS = isQuick ? 300 : 2000;
const IDENTITY = "bench";
const KEY = "0123456789abcdef";
const PATH = "b";
const LOADER = fileURLToPath(new URL("../../bench/coap-load", import.meta.url));
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const CLOCK_TICKS = 100;

interface Server {
  readonly process: ChildProcess;
  readonly coaps: number;
  readonly coap: number;
}

const servers = {
  ours: () => ownServer("our-server.js", IDENTITY, KEY),
  "node-coap": async () => ownServer("node-coap-server.js", String(await freePort())),
  "libcoap-openssl": () => libcoap("coap-server-openssl", "-k", KEY),
  "libcoap-notls": () => libcoap("coap-server-notls"),
} as const;
type ServerName = keyof typeof servers;

async function ownServer(script: string, ...args: string[]): Promise<Server> {
  const child = start("0", process.execPath, here(script), ...args);
  const line = await firstLine(child);
  const [coaps = 0, coap = 0] = line.split(" ").map(Number);
  return { process: child, coaps, coap };
}

/** libcoap's server makes a resource of what is PUT to it when told to (-d). */
async function libcoap(program: string, ...args: string[]): Promise<Server> {
  const coap = await freePort();
  const child = start("0", program, "-A", "127.0.0.1", "-p", String(coap), "-d", "10", ...args);
  const client = program.endsWith("notls") ? "coap-client-notls" : "coap-client-openssl";
  for (let attempt = 0; ; attempt++) {
    await sleep(100);
    try {
      await run(client, "-m", "put", "-e", "hello", "-B", "2", `coap://127.0.0.1:${coap}/${PATH}`);
      const said = await run(client, "-m", "get", "-B", "2", `coap://127.0.0.1:${coap}/${PATH}`);
      if (said.includes("hello")) return { process: child, coaps: coap + 1, coap };
    } catch (error) {
      if (attempt > 20) throw error;
    }
    if (attempt > 20) throw new Error(`${program} does not serve /${PATH}`);
  }
}

function start(core: string, program: string, ...args: string[]): ChildProcess {
  const { command, rest } = pinned(core, program, args);
  return spawn(command, rest, { stdio: ["ignore", "pipe", "ignore"] });
}

function pinned(
  core: string,
  program: string,
  args: readonly string[],
): { readonly command: string; readonly rest: readonly string[] } {
  return HAS_TASKSET ? { command: "taskset", rest: ["-c", core, program, ...args] } : { command: program, rest: args };
}

const HAS_TASKSET = existsSync("/usr/bin/taskset");

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.stdout?.once("data", (data: Buffer) => resolve(data.toString().trim()));
    child.once("exit", () => reject(new Error("a server ended before it listened")));
  });
}

function run(program: string, ...args: string[]): Promise<string> {
  const { command, rest } = pinned("1", program, args);
  return new Promise((resolve, reject) => {
    execFile(command, rest, { timeout: 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trim());
      else reject(new Error(`${program} ${args.join(" ")}: ${stderr}`, { cause: error }));
    });
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.bind(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}

function cpuSeconds({ process: child }: Server): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
}

function residentBytes({ process: child }: Server): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"));
  return Number(line?.[1]) * 1024;
}

const MEASUREMENTS = {
  "encrypted CON GET/s": async (server: Server) =>
    Number(await run(LOADER, "gets", String(server.coaps), PATH, "8", "4", String(SECONDS), IDENTITY, KEY)),
  "plain CON GET/s": async (server: Server) =>
    Number(await run(LOADER, "get", String(server.coap), PATH, "8", "4", String(SECONDS))),
  "full PSK handshakes per server CPU-second": async (server: Server) => {
    const before = cpuSeconds(server);
    const rate = Number(await run(LOADER, "handshake", String(server.coaps), String(SECONDS), IDENTITY, KEY));
    return (rate * SECONDS) / (cpuSeconds(server) - before);
  },
  "bytes per idle association": async (server: Server) => {
    await run(LOADER, "handshake", String(server.coaps), "1", IDENTITY, KEY);
    const before = residentBytes(server);
    const holder = spawn(LOADER, ["idle", String(server.coaps), String(IDLE_SESSIONS), IDENTITY, KEY], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await firstLine(holder);
    await sleep(2000);
    const bytes = (residentBytes(server) - before) / IDLE_SESSIONS;
    holder.stdin.end();
    await new Promise((resolve) => holder.once("exit", resolve));
    return bytes;
  },
} as const;
type Measurement = keyof typeof MEASUREMENTS;

async function measure(name: ServerName, measurement: Measurement): Promise<number> {
  const server = await servers[name]();
  try {
    return await MEASUREMENTS[measurement](server);
  } finally {
    server.process.kill("SIGKILL");
  }
}

const PLAN: readonly (readonly [Measurement, readonly ServerName[]])[] = [
  ["encrypted CON GET/s", ["ours", "libcoap-openssl"]],
  ["plain CON GET/s", ["ours", "libcoap-notls", "node-coap"]],
  ["full PSK handshakes per server CPU-second", ["ours", "libcoap-openssl"]],
  ["bytes per idle association", ["ours", "libcoap-openssl"]],
];

process.stdout.write("| figure | ours | peer | peer's | ours / peer's |\n|---|---|---|---|---|\n");
for (const [measurement, names] of PLAN) {
  const samples = new Map<ServerName, number[]>(names.map((name) => [name, []]));
  // In turn, so that a drift of the machine's speed meets all alike.
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    for (const name of names) samples.get(name)?.push(await measure(name, measurement));
  }
  const ours = median(samples.get("ours") ?? []);
  for (const name of names) {
    if (name === "ours") continue;
    const theirs = median(samples.get(name) ?? []);
    process.stdout.write(
      `| ${measurement} | ${Math.round(ours)} | ${name} | ${Math.round(theirs)} | ${(ours / theirs).toFixed(2)} |\n`,
    );
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
