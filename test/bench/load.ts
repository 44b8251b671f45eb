import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { firstLine, type Server, spawnPinned } from "./servers.js";
import { IDENTITY, KEY, PATH, PAYLOAD } from "./workload.js";

/** What the loader can do to a server. */
const WORKLOADS: Readonly<Record<WorkloadName, Workload>> = {
  "encrypted-get": { mode: "get", security: "psk", sessions: 8 },
  "plain-get": { mode: "get", security: "none", sessions: 8 },
  "psk-handshake": { mode: "handshake", security: "psk", sessions: 4 },
  "ecdsa-handshake": { mode: "handshake", security: "ecdsa", sessions: 4 },
};

export type WorkloadName = "encrypted-get" | "plain-get" | "psk-handshake" | "ecdsa-handshake";

interface Workload {
  readonly mode: "get" | "handshake";
  readonly security: "none" | "psk" | "ecdsa";
  readonly sessions: number;
}

/** What one run of the loader found. */
export interface Sample {
  readonly perSecond: number;
  /** By the processor time that the server took in the measured time, all its threads together. */
  readonly perCpuSecond: number;
  /** The loader's processor time by the server's: near or above 1, the loader is what was measured. */
  readonly loaderShare: number;
  readonly retransmissions: number;
}

/** Runs the loader on the other core; `warmupSeconds` pass before it counts. */
export async function load(
  server: Server,
  name: WorkloadName,
  { warmupSeconds, seconds }: { readonly warmupSeconds: number; readonly seconds: number },
): Promise<Sample> {
  const { mode, security, sessions } = WORKLOADS[name];
  const port = security === "none" ? server.coap : server.coaps;
  const options = [mode, ...target(port, security), "-r", PATH, "-e", PAYLOAD, "-n", String(sessions), "-o", "4"];
  const times = ["-w", String(warmupSeconds), "-t", String(seconds), "-P", String(server.pid)];
  const found: unknown = JSON.parse(await firstLine(spawnPinned("1", LOADER, [...options, ...times])));
  const { count, seconds: took, retransmissions, loaderCpuSeconds, serverCpuSeconds } = found as LoaderOutput;
  return {
    perSecond: count / took,
    perCpuSecond: count / serverCpuSeconds,
    loaderShare: loaderCpuSeconds / serverCpuSeconds,
    retransmissions,
  };
}

/**
 * Resident bytes for each idle PSK association of a server that was just started: the slope between a smaller and a larger
 * number of them, so that what the program takes for itself and for its first handshakes is left out.
 */
export async function idleBytes(
  server: Server,
  [fewer, more]: readonly [number, number],
  settleMs: number,
): Promise<number> {
  const hold = async (sessions: number): Promise<{ readonly resident: number; release(): Promise<void> }> => {
    const holder = spawnPinned("1", LOADER, ["idle", ...target(server.coaps, "psk"), "-n", String(sessions)]);
    const ended = new Promise((resolve) => holder.once("exit", resolve));
    await firstLine(holder);
    await sleep(settleMs);
    const release = async (): Promise<void> => {
      holder.stdin?.end();
      await ended;
    };
    return { resident: residentBytes(server.pid), release };
  };
  const first = await hold(fewer);
  const second = await hold(more - fewer);
  await Promise.all([first.release(), second.release()]);
  return (second.resident - first.resident) / (more - fewer);
}

function target(port: number, security: Workload["security"]): readonly string[] {
  return ["-p", String(port), "-s", security, "-u", IDENTITY, "-k", KEY];
}

function residentBytes(pid: number): number {
  const kilobytes = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  if (kilobytes === undefined) throw new Error(`process ${pid} has no resident memory`);
  return Number(kilobytes) * 1024;
}

interface LoaderOutput {
  readonly count: number;
  readonly seconds: number;
  readonly retransmissions: number;
  readonly loaderCpuSeconds: number;
  readonly serverCpuSeconds: number;
}

const LOADER = fileURLToPath(new URL("../../bench/coap-load", import.meta.url));
