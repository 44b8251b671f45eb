import { parseArgs } from "node:util";
import { DEFAULT_TRANSMISSION_PARAMETERS, derivedTimes } from "#coap/index.js";
import { Fleet, UdpLink } from "#sim/index.js";
import { FleetServer, type ServerUsage } from "./fleet-server.js";
import { median, megabytes, Outcome, wait } from "./outcome.js";

/**
 * Devices against one server over DTLS for a time. Ends with status 1 unless every acknowledged reading is in the server's
 * store, once, nothing is left unsent, no association was lost, and the server's memory is flat after the warm-up.
 *
 * Flat: the least heap of the first and of the last three tenths of the time after the warm-up is compared, as between two
 * collections a heap only grows; and the median of the memory that no file stands behind. What the history of readings takes is
 * in LMDB, and not counted. The warm-up ends when as many requests are forgotten as come: after EXCHANGE_LIFETIME, 247 s, or at
 * half of a shorter run.
 */
const { values } = parseArgs({
  options: {
    devices: { type: "string", default: "2000" },
    seconds: { type: "string", default: "600" },
    every: { type: "string", default: "10" },
    workers: { type: "string", default: "1" },
  },
});
const devices = Number(values.devices);
const seconds = Number(values.seconds);
const outcome = new Outcome();
const server = await FleetServer.start("lmdb", Number(values.workers));
const isShared = Number(values.workers) > 1;
// With several processes a NAT moves every device each 20 s, and at half of the time one process is killed.
const link = isShared
  ? await UdpLink.open({ listen: { host: "127.0.0.1" }, to: { address: "127.0.0.1", port: server.port }, seed: 1 })
  : undefined;
const port = link?.address.port ?? server.port;
const fleet = await Fleet.of(server.fleet(devices, { port, everyMs: Number(values.every) * 1000 }));
const startedAt = performance.now();
fleet.start((sample) => {
  if (sample.seconds % 10 !== 0) return;
  const p99 = fleet.figures.latencyMs(0.99)?.toFixed(1) ?? "–";
  process.stderr.write(`${sample.seconds} s: ${sample.devicesUp} up, ${sample.reports} reports/s, p99 ${p99} ms\n`);
});
let allUpAtMs: number | undefined;
const all: { readonly atMs: number; readonly usage: ServerUsage }[] = [];
for (let turn = 1, isKilled = !isShared; performance.now() - startedAt < seconds * 1000; turn++) {
  if (link !== undefined && turn % 20 === 0) await link.rebind();
  if (!isKilled && performance.now() - startedAt > seconds * 500) {
    isKilled = true;
    server.killWorker(1);
  }
  if (fleet.up === devices) allUpAtMs ??= performance.now() - startedAt;
  all.push({ atMs: performance.now() - startedAt, usage: await server.usage() });
  await wait(1000);
}
const forwarded = isShared ? await server.metric('dpe_steering{counter="forwarded"}') : 0;
const up = fleet.up;
const unsent = await fleet.settle(30_000);
const { counts, latencyMs, errors } = await fleet.stop();
const kept = await server.stop();
await link?.close();

const { exchangeLifetimeMs } = derivedTimes(DEFAULT_TRANSMISSION_PARAMETERS);
const warmUpMs = (allUpAtMs ?? 0) + Math.min(exchangeLifetimeMs, 500 * seconds);
const steady = all.filter(({ atMs }) => atMs >= warmUpMs);
const tenth = Math.max(1, Math.floor(steady.length / 10));
const part = (from: number): readonly ServerUsage[] => steady.slice(from, from + 3 * tenth).map(({ usage }) => usage);
const ends = [part(0), part(Math.max(0, steady.length - 3 * tenth))] as const;
const [heapFirst, heapLast] = ends.map((usages) => Math.min(...usages.map(({ heapBytes }) => heapBytes)));
const [anonymousFirst, anonymousLast] = ends.map((usages) =>
  median(usages.map(({ anonymousBytes }) => anonymousBytes)),
);
const [from, to] = [steady[0], steady.at(-1)];
const cpu = from && to ? (to.usage.cpuSeconds - from.usage.cpuSeconds) / ((to.atMs - from.atMs) / 1000) : Number.NaN;

outcome.say("devices, seconds", `${devices}, ${seconds}`);
outcome.say("reports acknowledged", `${counts.reports}, ${(counts.reports / seconds).toFixed(0)} a second`);
outcome.say("latency p50, p90, p99, max", `${latencyMs.p50}, ${latencyMs.p90}, ${latencyMs.p99}, ${latencyMs.max} ms`);
outcome.say("processor of the server, steady", `${(100 * cpu).toFixed(0)} % of a core`);
const tenths = Array.from({ length: 10 }, (_, index) => steady.slice(index * tenth, (index + 1) * tenth));
const byTenths = (name: string, of: (usage: ServerUsage) => number, statistic: (values: readonly number[]) => number) =>
  outcome.say(
    `${name} by tenths, MB`,
    tenths.map((usages) => (statistic(usages.map(({ usage }) => of(usage))) / 1e6).toFixed(0)).join(" "),
  );
byTenths(
  "least heap",
  ({ heapBytes }) => heapBytes,
  (values) => Math.min(...values),
);
byTenths("heap, with what is free of it,", ({ heapTotalBytes }) => heapTotalBytes, median);
byTenths("outside of it", ({ externalBytes }) => externalBytes, median);
byTenths("anonymous memory", ({ anonymousBytes }) => anonymousBytes, median);
outcome.say("the same, first and last three tenths", `${megabytes(heapFirst ?? 0)}, ${megabytes(heapLast ?? 0)}`);
outcome.say("anonymous memory, the same", `${megabytes(anonymousFirst ?? 0)}, ${megabytes(anonymousLast ?? 0)}`);
if (isShared) outcome.expect("datagrams handed to their owner", forwarded, forwarded > 0);
outcome.expect("every device is registered", up, up === devices);
outcome.expect("acknowledged readings that the store lacks", counts.readings - kept, counts.readings === kept);
outcome.expect("readings unsent or dropped", unsent + counts.dropped, unsent + counts.dropped === 0);
outcome.expect(
  "associations lost",
  `${counts.connectionsLost} ${JSON.stringify(errors)}`,
  counts.connectionsLost === 0,
);
// One process that was started anew has none of its memory.
if (!isShared) {
  const growth = (heapLast ?? Number.NaN) - (heapFirst ?? Number.NaN);
  const isFlat = growth <= Math.max(0.1 * (heapFirst ?? 0), 8e6);
  outcome.expect("the heap is flat (10 %, or 8 MB)", megabytes(growth), isFlat);
  const anonymousGrowth = (anonymousLast ?? Number.NaN) - (anonymousFirst ?? Number.NaN);
  outcome.expect(
    "anonymous memory is flat (15 %, or 32 MB)",
    megabytes(anonymousGrowth),
    anonymousGrowth <= Math.max(0.15 * (anonymousFirst ?? 0), 32e6),
  );
}
outcome.end();
