import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openBackend, Store, type StoreLocation } from "#store/index.js";
import { freePort } from "#testing/free-port.js";
import {
  cpuMs,
  end,
  folder,
  has,
  loadReports,
  memoryFolder,
  metric,
  MOSQUITTO,
  type ReportLoad,
  residentBytes,
  type RunningServer,
  startBroker,
  startRedis,
  startServer,
} from "./store-processes.js";

/**
 * Measures the durable state of a server, on LMDB and on Redis: reports through `dpe server` over DTLS, 2,000 a second and as
 * many as it takes, with and without fsync, and forwarded to MQTT; 100,000 devices in the store (start-up, memory, a page of
 * them); the store alone. The server has core 0; the loader, Redis and the broker share the other. Prints Markdown; what is
 * not installed is left out.
 *
 *   --quick   fewer devices, shorter samples    --json   prints JSON instead
 */
const isQuick = process.argv.includes("--quick");
const DEVICES = isQuick ? 10_000 : 100_000;
const REPORTS_PER_SECOND = 2000;
const REPORTERS = 1000;
const REPORTERS_AT_ONCE = 200;
const WARM_UP = isQuick ? 10_000 : 40_000;
const SECONDS = isQuick ? 4 : 10;
const STORE_SECONDS = isQuick ? 2 : 5;
const WAITING_REPORTS = isQuick ? 5000 : 20_000;

const loads: Load[] = [];
const rows: Row[] = [];
const hasRedis = await has("redis-server", "--version");
await measureReports("LMDB", { type: "lmdb", folder: join(folder, "reports") });
if (memoryFolder !== undefined)
  await measureReports("LMDB on a RAM disk: no fsync", { type: "lmdb", folder: join(memoryFolder, "reports") });
if (hasRedis) {
  await measureReports("Redis, appendfsync always", { type: "redis", url: await startRedis("always") });
  const volatile = "dangerVolatileStore: true";
  await measureReports("Redis, appendfsync no", { type: "redis", url: await startRedis("no") }, volatile);
}
if (await has(MOSQUITTO, "-h")) await measureForwarding();
await measureFleet("LMDB", { type: "lmdb", folder: join(folder, "fleet") });
if (hasRedis) await measureFleet("Redis", { type: "redis", url: await startRedis("always") });
await measureStores();
process.stdout.write(process.argv.includes("--json") ? `${JSON.stringify({ loads, rows }, null, 2)}\n` : markdown());
process.exit(0);

/** While it runs, on standard error. */
function progress(what: string): void {
  process.stderr.write(`bench: store: ${what}, after ${performance.now().toFixed(0)} ms\n`);
}

/** Of one server under one load. */
interface Load extends ReportLoad {
  readonly title: string;
}

interface Row {
  readonly title: string;
  readonly unit: string;
  readonly value: number;
}

async function measureReports(kind: string, location: StoreLocation, ...more: readonly string[]): Promise<void> {
  progress(kind);
  const server = await startServer(location, ...more);
  await measureRates(kind, server);
  await end(server.child);
}

async function measureRates(kind: string, server: RunningServer): Promise<void> {
  // The most it takes comes first: it warms up by many reports in a short time.
  const most = { devices: REPORTERS_AT_ONCE, perSecond: 0, warmUp: WARM_UP, seconds: SECONDS };
  const asMany = await loadReports(server, most);
  const asked = { devices: REPORTERS, perSecond: REPORTS_PER_SECOND, warmUp: REPORTS_PER_SECOND, seconds: SECONDS };
  const atRate = await loadReports(server, asked);
  loads.push({ title: `${kind}; ${REPORTERS} devices, ${REPORTS_PER_SECOND} a second asked`, ...atRate });
  loads.push({ title: `the same; ${REPORTERS_AT_ONCE} devices, as fast as they are answered`, ...asMany });
}

/** While they come in, and what has gathered while the broker was away. */
async function measureForwarding(): Promise<void> {
  progress("forwarding");
  const port = await freePort();
  const mqtt = `mqtt: { url: "mqtt://127.0.0.1:${port}" }`;
  const server = await startServer({ type: "lmdb", folder: join(folder, "forwarded") }, mqtt);
  const first = await startBroker(port);
  await loadReports(server, { devices: REPORTERS_AT_ONCE, perSecond: 0, warmUp: WARM_UP, seconds: 0.1 });
  const before = await metric(server, "dpe_forwarded_total");
  const asked = { devices: REPORTERS, perSecond: REPORTS_PER_SECOND, warmUp: REPORTS_PER_SECOND, seconds: SECONDS };
  const load = await loadReports(server, asked);
  const waits = await metric(server, "dpe_outbox_reports");
  const forwarded = (await metric(server, "dpe_forwarded_total")) - before;
  loads.push({ title: `LMDB, forwarded to MQTT; ${REPORTERS} devices, ${REPORTS_PER_SECOND} a second asked`, ...load });
  rows.push({
    title: "forwarded to MQTT and acknowledged by mosquitto, when the last of them is answered",
    unit: "%",
    value: (100 * forwarded) / (forwarded + waits),
  });

  await end(first);
  progress("the broker is away");
  const waiting = async (): Promise<number> => metric(server, "dpe_outbox_reports");
  while ((await waiting()) < WAITING_REPORTS)
    await loadReports(server, { devices: REPORTERS_AT_ONCE, perSecond: 0, warmUp: WAITING_REPORTS / 4, seconds: 0.1 });
  await startBroker(port);
  progress("the broker is back");
  const all = await waiting();
  // It notices that the broker is back in its own time.
  while ((await waiting()) === all) await sleep(50);
  const begin = { left: await waiting(), at: performance.now(), cpuMs: cpuMs(server.pid) };
  while ((await waiting()) > 0) await sleep(200);
  rows.push({
    title: `forwarding ${WAITING_REPORTS} reports that had gathered while the broker was away`,
    unit: "/s",
    value: begin.left / ((performance.now() - begin.at) / 1000),
  });
  rows.push({
    title: "the same: the server's processor time for each",
    unit: "µs",
    value: (1000 * (cpuMs(server.pid) - begin.cpuMs)) / begin.left,
  });
  await end(server.child);
}

async function measureFleet(kind: string, location: StoreLocation): Promise<void> {
  const add = (title: string, unit: string, value: number): void =>
    void rows.push({ title: `${kind}: ${title}`, unit, value });
  progress(`a fleet on ${kind}`);
  const empty = await startServer(location);
  add("start-up, an empty store", "ms", empty.startedMs);
  add("resident memory then", "MB", residentBytes(empty.pid) / 1e6);
  await end(empty.child);
  const filledAt = performance.now();
  await fill(location);
  add(`registering ${DEVICES} devices, 500 at a time`, "/s", DEVICES / ((performance.now() - filledAt) / 1000));
  const server = await startServer(location);
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

/** Stores by themselves in this process: 200 reporters at once, as fast as it takes them. */
async function measureStores(): Promise<void> {
  const variants: readonly (readonly [string, () => Promise<Store>])[] = [
    ["LMDB, fsync", () => Store.open({ type: "lmdb", folder: join(folder, "sync") })],
    ["LMDB, no fsync", () => Store.open({ type: "lmdb", folder: join(folder, "no-sync") }, { hasFsync: false })],
    ...(hasRedis
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
    progress(`alone: ${name}`);
    const store = await open();
    const ids: string[] = [];
    const now = Date.now();
    for (let index = 0; index < REPORTERS_AT_ONCE; index++) ids.push(await register(store, `device-${index}`, now));
    await saturate(store, ids, STORE_SECONDS / 4);
    const { perSecond, cpuMicroseconds, latencies } = await saturate(store, ids, STORE_SECONDS);
    const title = `the store alone, ${name}: reports, ${REPORTERS_AT_ONCE} at once`;
    rows.push({ title, unit: "/s", value: perSecond });
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

function quantile(values: readonly number[], share: number): number {
  return (
    values.toSorted((one, other) => one - other)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0
  );
}

function markdown(): string {
  const reports = loads.map(
    ({ title, perSecond, cpuShare, cpuMicroseconds, latencyMs, loaderIdle, retransmissions }) => {
      const share = `${Math.round(cpuShare * 100)} % | ${Math.round(cpuMicroseconds)}`;
      const latency = latencyMs.map((one) => short(one)).join(" | ");
      return `| ${title} | ${Math.round(perSecond)} | ${share} | ${latency} | ${Math.round(loaderIdle * 100)} % | ${retransmissions} |`;
    },
  );
  const others = rows.map(({ title, unit, value }) => `| ${title} | ${unit} | ${short(value)} |`);
  return [
    "| reports over DTLS, durable before they are answered | answered/s | of one processor | CPU-µs each | latency, ms: median | 90 % | 99 % | longest | loader idle | sent again |",
    "|---|---|---|---|---|---|---|---|---|---|",
    ...reports,
    "",
    "| the store | unit | ours |",
    "|---|---|---|",
    ...others,
    "",
  ].join("\n");
}

function short(value: number): string {
  return value < 10 ? value.toFixed(2) : String(Math.round(value));
}
