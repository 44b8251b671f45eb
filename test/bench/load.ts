import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { CLIENT_CERTIFICATE, firstLine, type Server, spawnPinned } from "./servers.js";
import { IDENTITY, KEY, PATH, PAYLOAD } from "./workload.js";

/** What the loader can do to a server. */
const WORKLOADS: Readonly<Record<WorkloadName, Workload>> = {
  "encrypted-get": { mode: "get", security: "psk", sessions: 8, outstanding: 4 },
  "encrypted-get-single": { mode: "get", security: "psk", sessions: 32, outstanding: 1 },
  "plain-get": { mode: "get", security: "none", sessions: 8, outstanding: 4 },
  "plain-beside-encrypted": { mode: "get", security: "none", sessions: 8, outstanding: 4 },
  "psk-handshake": { mode: "handshake", security: "psk", sessions: 32, outstanding: 1 },
  "psk-handshake-few": { mode: "handshake", security: "psk", sessions: 4, outstanding: 1 },
  "ecdsa-handshake": { mode: "handshake", security: "ecdsa", sessions: 4, outstanding: 1 },
  "mutual-handshake": { mode: "handshake", security: "mutual", sessions: 4, outstanding: 1 },
};

export type WorkloadName =
  | "encrypted-get"
  | "encrypted-get-single"
  | "plain-get"
  | "plain-beside-encrypted"
  | "psk-handshake"
  | "psk-handshake-few"
  | "ecdsa-handshake"
  | "mutual-handshake";

/** mutual: ECDSA with a certificate of the client too. */
export type Security = "none" | "psk" | "ecdsa" | "mutual";

interface Workload {
  readonly mode: "get" | "handshake";
  readonly security: Security;
  readonly sessions: number;
  readonly outstanding: number;
}

/** What one run of the loader found. */
export interface Sample {
  readonly perSecond: number;
  /** By the processor time that the server took in the measured time, all its threads together. */
  readonly perCpuSecond: number;
  readonly loaderIdle: number;
  readonly retransmissions: number;
}

/** Runs the loader on the other core; `warmUp` answers or handshakes pass before it counts. */
export async function load(
  server: Server,
  name: WorkloadName,
  { warmUp, seconds }: { readonly warmUp: number; readonly seconds: number },
): Promise<Sample> {
  const { mode, security, sessions, outstanding } = WORKLOADS[name];
  const requests = [...requested(), "-n", String(sessions), "-o", String(outstanding)];
  const times = ["-w", String(warmUp), "-t", String(seconds)];
  const found = await run(mode, server, security, requests.concat(times));
  return {
    perSecond: found.count / found.seconds,
    perCpuSecond: found.count / found.serverCpuSeconds,
    loaderIdle: found.idle,
    retransmissions: found.retransmissions,
  };
}

/** Sends ClientHellos without a cookie for so long, each of another random and from another port. */
export async function sayHello(
  server: Server,
  seconds: number,
): Promise<{ readonly count: number; readonly answeredPerByte: number }> {
  const found = await run("hello", server, "psk", ["-n", "32", "-t", String(seconds)]);
  return { count: found.count, answeredPerByte: found.bytesIn / found.bytesOut };
}

/**
 * Bytes for each idle association of a server that was just started: the slope between a smaller and a larger number of
 * them, so that what the program takes for itself and for its first handshakes is left out. Resident, a while after the
 * last handshake; and alive after a collection, where the server tells.
 */
export async function idleBytes(
  server: Server,
  security: Security,
  [fewer, more]: readonly [number, number],
  settleMs: number,
  hasLiveBytes: boolean,
): Promise<{ readonly resident: number; readonly live: number }> {
  const hold = async (sessions: number): Promise<Held> => {
    const holder = spawnPinned("1", LOADER, ["idle", ...target(server, security), "-n", String(sessions)]);
    const ended = new Promise((resolve) => holder.once("exit", resolve));
    await firstLine(holder);
    await sleep(settleMs);
    const release = async (): Promise<void> => {
      holder.stdin?.end();
      await ended;
    };
    // In this order: a collection might give pages back.
    const resident = residentBytes(server.pid);
    return { resident, live: hasLiveBytes ? await server.ask("live") : 0, release };
  };
  const first = await hold(fewer);
  const second = await hold(more - fewer);
  await Promise.all([first.release(), second.release()]);
  const per = (a: number, b: number): number => (b - a) / (more - fewer);
  return { resident: per(first.resident, second.resident), live: per(first.live, second.live) };
}

/** What observers cost, and what it takes to tell all of them of a change. */
export interface ObserverCost {
  readonly liveBytes: number;
  readonly residentBytes: number;
  /** From the change until the last of them has the notification. */
  readonly roundSeconds: readonly number[];
  /** Of the server, for each notification. */
  readonly cpuMicroseconds: readonly number[];
}

/** Observers, `each` to a peer of an address of its own, of a server that was just started. */
export async function observe(
  server: Server,
  options: {
    readonly peers: number;
    readonly each: number;
    readonly isConfirmable: boolean;
    readonly rounds: number;
    readonly settleMs: number;
  },
): Promise<ObserverCost> {
  const { peers, each, isConfirmable, rounds, settleMs } = options;
  const count = peers * each;
  const hold = async (sessions: number) => {
    const amount = ["-n", String(sessions), "-o", String(each), ...(isConfirmable ? ["-C"] : [])];
    const holder = spawnPinned("1", LOADER, ["observe", ...target(server, "none"), ...requested(), ...amount]);
    await firstLine(holder);
    return holder;
  };
  // The slope from a first few on, so that what the program takes for itself is left out.
  const few = peers / 10;
  const holders = [await hold(few)];
  await sleep(settleMs);
  const before = { resident: residentBytes(server.pid), live: await server.ask("live") };
  holders.push(await hold(peers - few));
  await sleep(settleMs);
  const resident = residentBytes(server.pid);
  const live = await server.ask("live");
  const roundSeconds: number[] = [];
  const cpuMicroseconds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const cpu = await server.ask("cpu");
    const begin = performance.now();
    const told = holders.map(firstLine);
    await server.ask("notify");
    await Promise.all(told);
    roundSeconds.push((performance.now() - begin) / 1000);
    cpuMicroseconds.push(((await server.ask("cpu")) - cpu) / count);
  }
  for (const holder of holders) holder.kill();
  const added = (peers - few) * each;
  return {
    liveBytes: (live - before.live) / added,
    residentBytes: (resident - before.resident) / added,
    roundSeconds,
    cpuMicroseconds,
  };
}

function requested(): readonly string[] {
  return ["-r", PATH, "-e", PAYLOAD];
}

interface Held {
  readonly resident: number;
  readonly live: number;
  release(): Promise<void>;
}

async function run(
  mode: string,
  server: Server,
  security: Security,
  options: readonly string[],
): Promise<LoaderOutput> {
  const pid = ["-P", String(server.pid)];
  const child = spawnPinned("1", LOADER, [mode, ...target(server, security), ...options, ...pid]);
  const found: unknown = JSON.parse(await firstLine(child));
  return found as LoaderOutput;
}

function target({ coap, coaps }: Server, security: Security): readonly string[] {
  switch (security) {
    case "none":
      return ["-p", String(coap), "-s", "none"];
    case "psk":
      return ["-p", String(coaps), "-s", "psk", "-u", IDENTITY, "-k", KEY];
    case "ecdsa":
      return ["-p", String(coaps), "-s", "ecdsa"];
    case "mutual":
      return ["-p", String(coaps), "-s", "ecdsa", "-c", CLIENT_CERTIFICATE[0], "-j", CLIENT_CERTIFICATE[1]];
  }
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
  readonly idle: number;
  readonly serverCpuSeconds: number;
  readonly bytesOut: number;
  readonly bytesIn: number;
}

const LOADER = fileURLToPath(new URL("../../bench/coap-load", import.meta.url));
