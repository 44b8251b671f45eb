import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { FleetOptions } from "#sim/index.js";
import { Store } from "#store/index.js";

/** `dpe server` in a process of its own, for a run that a person starts. */
export class FleetServer {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #http: string;
  readonly #isDurable: boolean;

  private constructor(child: ChildProcess, folder: string, port: number, http: string, isDurable: boolean) {
    this.#child = child;
    this.#folder = folder;
    this.port = port;
    this.#http = http;
    this.#isDurable = isDurable;
  }

  /** On LMDB, unless what a disk takes for it is to be left out. */
  static async start(isDurable = true): Promise<FleetServer> {
    const folder = mkdtempSync(join(tmpdir(), "dpe-fleet-"));
    const file = join(folder, "server.yaml");
    writeFileSync(
      file,
      `control: none
log: info
http: { port: 0 }
${isDurable ? `store: ${join(folder, "data")}\n` : ""}credentials: { psk: [{ identity: fleet, key: "${KEY}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk, digest] }
subscribers:
  - { name: bench, psk: { identity: bench, key: "${KEY}" }, endpoints: ["*"] }
  - { name: alice, password: secret, endpoints: ["evil-*"] }
`,
    );
    const child = spawn(process.execPath, [DPE, "server", "--config", file], { stdio: ["ignore", "pipe", "inherit"] });
    children.add(child);
    child.once("exit", () => children.delete(child));
    let text = "";
    const [port, http] = await new Promise<[number, string]>((resolve, reject) => {
      child.stdout?.on("data", (chunk: Buffer) => {
        if (text.includes('"listening"')) return;
        text += chunk.toString();
        if (!text.includes('"listening"')) return;
        const found = /"coaps":"127\.0\.0\.1:(\d+)"/.exec(text)?.[1];
        resolve([Number(found), /http:\/\/127\.0\.0\.1:\d+/.exec(text)?.[0] ?? ""]);
      });
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    });
    return new FleetServer(child, folder, port, http, isDurable);
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
    const pid = this.#child.pid ?? 0;
    const anonymous = /RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return {
      anonymousBytes: Number(anonymous ?? 0) * 1024,
      heapBytes: await this.metric("nodejs_heap_size_used_bytes"),
      cpuSeconds: ticks / TICKS_A_SECOND,
    };
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
    if (!this.#isDurable) {
      rmSync(this.#folder, { recursive: true });
      return told;
    }
    const store = await Store.open({ type: "lmdb", folder: join(this.#folder, "data") });
    let readings = 0;
    for await (const { partition } of store.backend.scan("history")) if (!partition.endsWith("\0model")) readings++;
    await store.close();
    rmSync(this.#folder, { recursive: true });
    return readings;
  }
}

export interface ServerUsage {
  readonly anonymousBytes: number;
  readonly heapBytes: number;
  readonly cpuSeconds: number;
}

const children = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
const KEY = "0123456789abcdef";
const DPE = fileURLToPath(new URL("../../src/cli/dpe.js", import.meta.url));
const TICKS_A_SECOND = 100;
