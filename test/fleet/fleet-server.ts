import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FleetOptions } from "#sim/index.js";
import { Store } from "#store/index.js";
import { sharingNode } from "#testing/sharing-node.js";
import { DPE } from "#testing/dpe-program.js";
import { freePort } from "#testing/free-port.js";

/** `dpe server` in a process of its own, for a run that a person starts. */
export class FleetServer {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #http: string;
  readonly #more: ServerPlaces;

  private constructor(child: ChildProcess, folder: string, port: number, http: string, more: ServerPlaces) {
    this.#child = child;
    this.#folder = folder;
    this.port = port;
    this.#http = http;
    this.#more = more;
  }

  /**
   * On LMDB; "memory", where what a disk takes for it is to be left out; with `workers`, as so many processes on a Redis of their
   * own, keeping associations over the end of one.
   */
  static async start(store: "lmdb" | "memory" = "lmdb", workers = 1): Promise<FleetServer> {
    const folder = mkdtempSync(join(tmpdir(), "dpe-fleet-"));
    const file = join(folder, "server.yaml");
    const redis = workers > 1 ? await startRedis(folder) : undefined;
    const location = redis ?? (store === "lmdb" ? join(folder, "data") : undefined);
    const associations = join(folder, "associations");
    writeFileSync(
      file,
      `control: none
log: info
http: { port: 0 }
${location === undefined ? "" : `store: ${location}\n`}${redis === undefined ? "" : `dtls: { associations: ${associations} }\n`}credentials: { psk: [{ identity: fleet, key: "${KEY}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk, digest] }
subscribers:
  - { name: bench, psk: { identity: bench, key: "${KEY}" }, endpoints: ["*"] }
  - { name: alice, password: secret, endpoints: ["evil-*"] }
`,
    );
    const node = workers > 1 ? sharingNode() : process.execPath;
    const words = [DPE, "server", "--config", file, "--workers", String(workers)];
    const child = spawn(node, words, { stdio: ["ignore", "pipe", "inherit"] });
    children.add(child);
    child.once("exit", () => children.delete(child));
    let text = "";
    const workerPids = new Map<number, number>();
    const [port, http] = await new Promise<[number, string]>((resolve, reject) => {
      child.stdout?.on("data", (chunk: Buffer) => {
        for (const [, worker, pid] of chunk.toString().matchAll(/"worker":(\d+),"pid":(\d+)/g))
          workerPids.set(Number(worker), Number(pid));
        if (text.includes('"listening"')) return;
        text += chunk.toString();
        if (!text.includes('"listening"')) return;
        const found = /"coaps":"127\.0\.0\.1:(\d+)"/.exec(text)?.[1];
        resolve([Number(found), /http:\/\/127\.0\.0\.1:\d+/.exec(text)?.[0] ?? ""]);
      });
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    });
    return new FleetServer(child, folder, port, http, { location, workerPids });
  }

  /** Options of devices that register here. */
  fleet(devices: number, more: Partial<FleetOptions> = {}): FleetOptions {
    return {
      scheme: "coaps",
      host: "127.0.0.1",
      port: this.port,
      devices,
      profile: "pi",
      stack: "dpe-coap",
      endpointPrefix: "sim-",
      psk: { identity: "bench", key: KEY },
      startsPerSecond: 100,
      seed: 1,
      ...more,
    };
  }

  /** Bytes of its memory that no file stands behind, bytes of live and dead objects in its heap, and processor seconds. */
  async usage(): Promise<ServerUsage> {
    const { workerPids } = this.#more;
    const all = (workerPids.size > 0 ? [...workerPids.values()] : [this.#child.pid ?? 0]).flatMap(
      (pid) => usageOf(pid) ?? [],
    );
    const sum = (of: (usage: ProcessUsage) => number): number => all.reduce((so, usage) => so + of(usage), 0);
    return {
      anonymousBytes: sum(({ anonymousBytes }) => anonymousBytes),
      heapBytes: await this.metric("nodejs_heap_size_used_bytes"),
      heapTotalBytes: await this.metric("nodejs_heap_size_total_bytes"),
      externalBytes: await this.metric("nodejs_external_memory_bytes"),
      cpuSeconds: sum(({ cpuSeconds }) => cpuSeconds),
    };
  }

  /** Ends one process of several at once; it is started again by itself. */
  killWorker(index: number): void {
    process.kill(this.#more.workerPids.get(index) ?? 0, "SIGKILL");
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.#http}/metrics`)).text();
    const line = text.split("\n").find((one) => one.startsWith(`${name} `));
    return Number(line?.slice(name.length) ?? Number.NaN);
  }

  /** Ends it, and counts the readings that its store has, but for what devices say once when they register. */
  async stop(): Promise<number> {
    // Each registration brings one of those.
    const told = (await this.metric("dpe_readings_total")) - (await this.metric("dpe_registrations_total"));
    const exited = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    await exited;
    const { location } = this.#more;
    if (location === undefined) {
      rmSync(this.#folder, { recursive: true });
      return told;
    }
    const store = await Store.open(
      location.startsWith("redis:") ? { type: "redis", url: location } : { type: "lmdb", folder: location },
    );
    let readings = 0;
    for await (const { partition } of store.backend.scan("history")) if (!partition.endsWith("\0model")) readings++;
    await store.close();
    rmSync(this.#folder, { recursive: true });
    return readings;
  }
}

interface ServerPlaces {
  /** Of its store; undefined: its memory. */
  readonly location: string | undefined;
  readonly workerPids: ReadonlyMap<number, number>;
}

type ProcessUsage = Pick<ServerUsage, "anonymousBytes" | "cpuSeconds">;

/** Undefined where the process has just ended. */
function usageOf(pid: number): ProcessUsage | undefined {
  try {
    const anonymous = /RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const cpuSeconds = (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
    return { anonymousBytes: Number(anonymous ?? 0) * 1024, cpuSeconds };
  } catch {
    return undefined;
  }
}

async function startRedis(folder: string): Promise<string> {
  const port = await freePort();
  const words = ["--bind", "127.0.0.1", "--port", String(port), "--dir", folder, "--save", ""];
  const redis = spawn("redis-server", [...words, "--appendonly", "yes", "--appendfsync", "always"]);
  children.add(redis);
  await new Promise<void>((resolve, reject) => {
    redis.stdout.on("data", (chunk: Buffer) => chunk.toString().includes("Ready to accept") && resolve());
    redis.once("error", reject);
    redis.once("exit", () => reject(new Error("redis-server ended")));
  });
  return `redis://127.0.0.1:${port}`;
}

export interface ServerUsage {
  readonly anonymousBytes: number;
  readonly heapBytes: number;
  /** What V8 has of the system for its heap; what it holds outside of it, such as arrays. */
  readonly heapTotalBytes: number;
  readonly externalBytes: number;
  readonly cpuSeconds: number;
}

const children = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
const KEY = "0123456789abcdef";
const TICKS_A_SECOND = 100;
