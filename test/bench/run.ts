import { cpus } from "node:os";
import { type Figure, FIGURES, Samples, type Value } from "./figures.js";
import { idleBytes, load, type WorkloadName } from "./load.js";
import { type Server, type ServerName, START_SERVER } from "./servers.js";

/**
 * Measures our server against its peers within one run, servers on one core and the load on another, and prints a Markdown
 * table of medians and ratios. Only the ratios carry over to other machines.
 *
 *   --quick   shorter samples, one of each    --json   prints JSON instead
 */
const isQuick = process.argv.includes("--quick");
const isJson = process.argv.includes("--json");
const REPETITIONS = isQuick ? 1 : 3;
const GET_TIMES = isQuick ? { warmupSeconds: 0.5, seconds: 1 } : { warmupSeconds: 1, seconds: 3 };
const HANDSHAKE_TIMES = isQuick ? { warmupSeconds: 0.3, seconds: 1 } : { warmupSeconds: 0.5, seconds: 3 };
// Fewer, and what the collector has not yet freed of the handshakes is as large as what is measured.
const IDLE_SESSIONS = [2000, 8000] as const;
const SETTLE_MS = 1000;

/** Which workloads each server is put under. */
const LOADS: readonly (readonly [WorkloadName, readonly ServerName[]])[] = [
  ["encrypted-get", ["ours", "libcoap-openssl"]],
  ["plain-get", ["ours", "libcoap-notls", "node-coap"]],
  ["psk-handshake", ["ours", "libcoap-openssl"]],
  ["ecdsa-handshake", ["ours", "libcoap-openssl"]],
];

const samples = new Samples();
await measureLoads();
await measureIdleMemory();
process.stdout.write(isJson ? json() : markdown());

/** Servers stay up, and are measured in turn, so that a drift of the machine's speed meets all alike. */
async function measureLoads(): Promise<void> {
  const servers = new Map<ServerName, Server>();
  for (const name of new Set(LOADS.flatMap(([, names]) => names))) servers.set(name, await START_SERVER[name]());
  for (const [workload, names] of LOADS) {
    const times = workload.endsWith("handshake") ? HANDSHAKE_TIMES : GET_TIMES;
    for (let repetition = 0; repetition < REPETITIONS; repetition++) {
      for (const name of names) {
        const server = servers.get(name);
        if (server !== undefined) samples.addLoad(name, workload, await load(server, workload, times));
      }
    }
  }
  await Promise.all([...servers.values()].map((server) => server.end()));
}

async function measureIdleMemory(): Promise<void> {
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    for (const name of ["ours", "libcoap-openssl"] as const) {
      const server = await START_SERVER[name]();
      samples.addIdle(name, await idleBytes(server, IDLE_SESSIONS, SETTLE_MS));
      await server.end();
    }
  }
}

function markdown(): string {
  const rows = FIGURES.map((figure) => {
    const ours = samples.valueOf(figure.ours);
    const peer = samples.valueOf(figure.peer);
    const cells = [
      figure.title,
      figure.unit,
      written(ours),
      figure.peer.server,
      written(peer),
      ratioOf(figure).toFixed(2),
      figure.aim ?? "",
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return [
    `${machine()}; medians of ${REPETITIONS}, lowest–highest in brackets.`,
    "",
    "| figure | unit | ours | peer | peer's | ours / peer's | aim |",
    "|---|---|---|---|---|---|---|",
    ...rows,
    "",
    `The loader took at most ${samples.largestLoaderShare.toFixed(2)} of a server's processor time; ` +
      `${samples.retransmissions} retransmissions.`,
    "",
  ].join("\n");
}

function json(): string {
  const figures = FIGURES.map((figure) => ({
    title: figure.title,
    unit: figure.unit,
    ours: samples.valueOf(figure.ours),
    peer: { server: figure.peer.server, ...samples.valueOf(figure.peer) },
    ratio: ratioOf(figure),
  }));
  const { largestLoaderShare, retransmissions } = samples;
  const report = { machine: machine(), repetitions: REPETITIONS, figures, largestLoaderShare, retransmissions };
  return `${JSON.stringify(report, null, 2)}\n`;
}

function ratioOf({ ours, peer }: Figure): number {
  return samples.valueOf(ours).median / samples.valueOf(peer).median;
}

function written({ median, lowest, highest }: Value): string {
  const range = REPETITIONS === 1 ? "" : ` (${Math.round(lowest)}–${Math.round(highest)})`;
  return `${Math.round(median)}${range}`;
}

function machine(): string {
  return `${cpus().length} × ${cpus()[0]?.model ?? "processor"}, Node.js ${process.versions.node}`;
}
