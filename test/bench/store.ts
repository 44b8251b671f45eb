import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CODE, OPTION, Options } from "#coap/index.js";
import { BINDING_OPTION_FORMATS, CONTENT_FORMAT } from "#dpe/index.js";
import { type CoapConnection, CoapEndpoint, connect } from "#net/index.js";
import { encodePack } from "#senml/index.js";
import { openBackend, Store, type StoreLocation } from "#store/index.js";
import { DPE } from "#testing/dpe-program.js";

/**
 * Measures the durable state of a server, on LMDB and on Redis: 100,000 devices in the store (start-up, memory, a page of
 * them), 2,000 reports a second through `dpe server` over DTLS (processor, latency), and what the fsync of it costs. Prints a
 * Markdown table; Redis is left out where there is none.
 *
 *   --quick   fewer devices, shorter samples    --json   prints JSON instead
 */
const isQuick = process.argv.includes("--quick");
const DEVICES = isQuick ? 10_000 : 100_000;
const REPORTERS = 200;
const REPORTS_PER_SECOND = 2000;
const SECONDS = isQuick ? 5 : 20;
const STORE_SECONDS = isQuick ? 2 : 5;
const KEY = "000102030405060708090a0b0c0d0e0f";

const folder = await mkdtemp(join(tmpdir(), "dpe-bench-store-"));
const children = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});
const rows: Row[] = [];
try {
  await measure("LMDB", (name) => Promise.resolve({ type: "lmdb", folder: join(folder, name) }));
  if (await hasRedis()) await measure("Redis", async () => ({ type: "redis", url: await startRedis("always") }));
  await measureFsync();
} finally {
  for (const child of children) child.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}
process.stdout.write(process.argv.includes("--json") ? `${JSON.stringify(rows, null, 2)}\n` : markdown());
process.exit(0);

interface Row {
  readonly title: string;
  readonly unit: string;
  readonly value: number;
}

async function measure(kind: string, locate: (name: string) => Promise<StoreLocation>): Promise<void> {
  const add = (title: string, unit: string, value: number): void =>
    void rows.push({ title: `${kind}: ${title}`, unit, value });
  const empty = await startServer(await locate("empty"));
  add("start-up, an empty store", "ms", empty.startedMs);
  add("resident memory then", "MB", residentBytes(empty.pid) / 1e6);
  const { latencies, perSecond, cpuShare } = await report(empty);
  add(`reports over DTLS of ${REPORTERS} devices, durable before they are answered`, "/s", perSecond);
  add("the same: share of one processor", "%", cpuShare * 100);
  add("the same: latency, median", "ms", quantile(latencies, 0.5));
  add("the same: latency, 99 %", "ms", quantile(latencies, 0.99));
  await end(empty.child);

  const full = await locate("full");
  const filledAt = performance.now();
  await fill(full);
  add(`registering ${DEVICES} devices, 500 at a time`, "/s", DEVICES / ((performance.now() - filledAt) / 1000));
  const server = await startServer(full);
  add(`start-up, ${DEVICES} devices`, "ms", server.startedMs);
  add("resident memory then", "MB", residentBytes(server.pid) / 1e6);
  const pages: number[] = [];
  for (let page = 0; page < 20; page++) {
    const after = `device-${String(Math.floor((page * DEVICES) / 20)).padStart(6, "0")}`;
    const askedAt = performance.now();
    const answer = await fetch(`${server.http}/api/devices?limit=100&after=${after}`);
    const { devices } = (await answer.json()) as { readonly devices: readonly unknown[] };
    if (devices.length !== 100) throw new Error(`a page of ${devices.length} devices`);
    pages.push(performance.now() - askedAt);
  }
  add("a page of 100 of them by HTTP, median of 20", "ms", quantile(pages, 0.5));
  add("resident memory after that", "MB", residentBytes(server.pid) / 1e6);
  await end(server.child);
}

/** The store by itself in this process: 200 reporters at once, as fast as it takes them. */
async function measureFsync(): Promise<void> {
  const redis = await hasRedis();
  const variants: readonly (readonly [string, () => Promise<Store>])[] = [
    ["LMDB, fsync", () => Store.open({ type: "lmdb", folder: join(folder, "sync") })],
    ["LMDB, no fsync", () => Store.open({ type: "lmdb", folder: join(folder, "no-sync") }, { hasFsync: false })],
    ...(redis
      ? ([
          ["Redis, fsync", async () => Store.open({ type: "redis", url: await startRedis("always") })],
          [
            "Redis, no fsync",
            async () => Store.open({ type: "redis", url: await startRedis("no") }, { dangerVolatile: true }),
          ],
        ] as const)
      : []),
  ];
  for (const [name, open] of variants) {
    const store = await open();
    const ids: string[] = [];
    const now = Date.now();
    for (let index = 0; index < REPORTERS; index++) ids.push(await register(store, `device-${index}`, now));
    await saturate(store, ids, 0.5);
    const { perSecond, cpuMicroseconds, latencies } = await saturate(store, ids, STORE_SECONDS);
    rows.push({ title: `the store alone, ${name}: reports, ${REPORTERS} at once`, unit: "/s", value: perSecond });
    rows.push({ title: "the same: our processor time for each", unit: "µs", value: cpuMicroseconds });
    rows.push({ title: "the same: latency, median", unit: "ms", value: quantile(latencies, 0.5) });
    await store.close();
  }
}

async function saturate(
  store: Store,
  ids: readonly string[],
  seconds: number,
): Promise<{ readonly perSecond: number; readonly cpuMicroseconds: number; readonly latencies: readonly number[] }> {
  const latencies: number[] = [];
  const [startedAt, cpu] = [performance.now(), process.cpuUsage()];
  const until = startedAt + seconds * 1000;
  await Promise.all(
    ids.map(async (id) => {
      while (performance.now() < until) {
        const at = performance.now();
        const now = performance.timeOrigin + at;
        const records = [{ name: "count", value: latencies.length, timeSeconds: now / 1000 }];
        await store.registrations.report(id, undefined, { records, server: "bench" }, now);
        latencies.push(performance.now() - at);
      }
    }),
  );
  const used = process.cpuUsage(cpu);
  const tookSeconds = (performance.now() - startedAt) / 1000;
  return {
    perSecond: latencies.length / tookSeconds,
    cpuMicroseconds: (used.user + used.system) / latencies.length,
    latencies,
  };
}

async function fill(location: StoreLocation): Promise<void> {
  const store = await Store.on(await openBackend(location));
  const now = Date.now();
  for (let first = 0; first < DEVICES; first += 500) {
    const numbers = Array.from({ length: Math.min(500, DEVICES - first) }, (_, index) => first + index);
    await Promise.all(numbers.map((number) => register(store, `device-${String(number).padStart(6, "0")}`, now)));
  }
  await store.close();
}

async function register(store: Store, endpoint: string, now: number): Promise<string> {
  const records = [{ name: "temperature", unit: "Cel", value: 21.5, timeSeconds: now / 1000, updateTimeSeconds: 60 }];
  const request = {
    endpoint,
    subscriber: undefined,
    lifetimeSeconds: 86_400,
    dpe2: { type: "association" } as const,
    isQueueMode: false,
  };
  const { registration } = await store.registrations.register(request, { records, server: "bench" }, now);
  return registration.id;
}

/** Each device has one report on the way at most; one that is late begins its next at once. */
async function report(
  server: RunningServer,
): Promise<{ readonly latencies: readonly number[]; readonly perSecond: number; readonly cpuShare: number }> {
  const endpoint = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  const devices: { readonly connection: CoapConnection; readonly path: readonly string[] }[] = [];
  for (let index = 0; index < REPORTERS; index++) {
    const session = await connect(
      { host: "127.0.0.1", port: server.coaps },
      { psk: { identity: new TextEncoder().encode("bench"), key: Uint8Array.from(Buffer.from(KEY, "hex")) } },
    );
    await session.opened;
    const connection = endpoint.addSession(session);
    const options = Options.none
      .withAll(OPTION.UriPath, ["dpe1", "reg"])
      .withAll(OPTION.UriQuery, [`ep=bench-${index}`, "lt=600"]);
    const { options: given } = await connection.request({ code: CODE.POST, options, payload: new Uint8Array(0) });
    devices.push({ connection, path: given.locationPath });
  }
  const latencies: number[] = [];
  const everyMs = (1000 * REPORTERS) / REPORTS_PER_SECOND;
  const run = async (seconds: number): Promise<void> => {
    latencies.length = 0;
    const startedAt = performance.now();
    await Promise.all(
      devices.map(async ({ connection, path }, index) => {
        let nextAt = startedAt + (index * everyMs) / REPORTERS;
        for (let count = 0; nextAt < startedAt + seconds * 1000; count++, nextAt += everyMs) {
          await sleep(Math.max(0, nextAt - performance.now()));
          const at = performance.now();
          const options = Options.none
            .withAll(OPTION.UriPath, [...path, "p"])
            .with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor);
          const record = { name: "count", value: count, timeSeconds: (performance.timeOrigin + at) / 1000 };
          const { code } = await connection.request({
            code: CODE.POST,
            options,
            payload: encodePack([record], "cbor"),
          });
          if (code !== CODE.Changed) throw new Error(`a report was answered with ${code}`);
          latencies.push(performance.now() - at);
        }
      }),
    );
  };
  await run(3);
  const [cpu, startedAt] = [cpuMs(server.pid), performance.now()];
  await run(SECONDS);
  const tookMs = performance.now() - startedAt;
  const cpuShare = (cpuMs(server.pid) - cpu) / tookMs;
  await endpoint.close();
  return { latencies: [...latencies], perSecond: latencies.length / (tookMs / 1000), cpuShare };
}

interface RunningServer {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly coaps: number;
  readonly http: string;
  readonly startedMs: number;
}

async function startServer(location: StoreLocation): Promise<RunningServer> {
  const file = join(folder, "server.yaml");
  const store = location.type === "lmdb" ? location.folder : location.type === "redis" ? location.url : "";
  const yaml = `
store: ${store}
control: none
http: { port: 0 }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
  await writeFile(file, yaml, { mode: 0o600 });
  const startedAt = performance.now();
  const child = started(process.execPath, [DPE, "server", "--config", file]);
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

async function startRedis(fsync: "always" | "no"): Promise<string> {
  const port = await freePort();
  const place = await mkdtemp(join(folder, "redis-"));
  const listening = ["--bind", "127.0.0.1", "--port", String(port), "--dir", place, "--save", ""];
  const child = started("redis-server", [...listening, "--appendonly", "yes", "--appendfsync", fsync]);
  await printed(child, "Ready to accept connections");
  return `redis://127.0.0.1:${port}`;
}

function hasRedis(): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn("redis-server", ["--version"], { stdio: "ignore" });
    child.once("error", () => resolve(false));
    child.once("exit", (code) => resolve(code === 0));
  });
}

function started(program: string, words: readonly string[]): ChildProcess {
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "inherit"] });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** The line of its output that has `expected`. */
function printed(child: ChildProcess, expected: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    child.once("exit", (code) => reject(new Error(`${child.spawnfile} ended with ${code}: ${output}`)));
    child.stdout?.on("data", (data: Buffer) => {
      output += data.toString();
      const line = output.split("\n").find((one) => one.includes(expected));
      if (line === undefined) return;
      child.stdout?.removeAllListeners("data").resume();
      resolve(line);
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  child.removeAllListeners("exit");
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await exited;
  children.delete(child);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0 }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" ? (address?.port ?? 0) : 0));
    });
  });
}

/** User and system time, proc(5). */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function residentBytes(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}

function quantile(values: readonly number[], share: number): number {
  return (
    values.toSorted((one, other) => one - other)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0
  );
}

function markdown(): string {
  const lines = rows.map(
    ({ title, unit, value }) => `| ${title} | ${unit} | ${value < 10 ? value.toFixed(2) : Math.round(value)} |`,
  );
  return ["| the store | unit | ours |", "|---|---|---|", ...lines, ""].join("\n");
}
