import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { type Figure, FIGURES, Samples, type Value } from "./figures.js";
import { idleBytes, load, sayHello, type Security, type WorkloadName } from "./load.js";
import { firstLine, type Server, spawnPinned, type StartedName, START_SERVER } from "./servers.js";

/**
 * Measures our server against its peers within one run, servers on one core and the load on another, and prints a Markdown
 * table of medians and ratios. Only the ratios carry over to other machines.
 *
 *   --quick   shorter samples, one of each    --json   prints JSON instead
 */
const isQuick = process.argv.includes("--quick");
const isJson = process.argv.includes("--json");
const REPETITIONS = isQuick ? 1 : 5;
const SECONDS = isQuick ? 0.7 : 1.5;
// A program in JavaScript is compiled as it runs: in its first second it shakes hands at a third of its later speed.
const WARMUP_SECONDS = { get: isQuick ? 1 : 2, handshake: isQuick ? 3 : 5 };
const IDLE_SESSIONS = isQuick ? ([1000, 3000] as const) : ([2000, 12_000] as const);
const IDLE_REPETITIONS = isQuick ? 1 : 2;
const SETTLE_MS = 1500;
const HELLO_SECONDS = isQuick ? 1 : 3;

/** Which workloads each server is put under. */
const LOADS: readonly (readonly [WorkloadName, readonly StartedName[]])[] = [
  ["encrypted-get", ["ours", "libcoap-openssl"]],
  ["encrypted-get-single", ["ours", "libcoap-openssl"]],
  ["plain-get", ["ours", "libcoap-notls", "node-coap", "node-dgram"]],
  ["psk-handshake", ["ours", "libcoap-openssl"]],
  ["ecdsa-handshake", ["ours", "libcoap-openssl"]],
  ["mutual-handshake", ["ours-mutual", "libcoap-mutual"]],
];

const samples = new Samples();
await measureLoads();
await measureIdleMemory();
await measureHellos();
await measureCodec();
process.stdout.write(isJson ? json() : markdown());

/** Servers stay up, and are measured in turn, so that a drift of the machine's speed meets all alike. */
async function measureLoads(): Promise<void> {
  const servers = new Map<StartedName, Server>();
  for (const name of new Set(LOADS.flatMap(([, names]) => names))) servers.set(name, await START_SERVER[name]());
  for (const [workload, names] of LOADS) {
    const warmupSeconds = WARMUP_SECONDS[workload.endsWith("handshake") ? "handshake" : "get"];
    for (let repetition = 0; repetition < REPETITIONS; repetition++) {
      for (const name of names) {
        const server = servers.get(name);
        if (server === undefined) continue;
        const isFirst = repetition === 0 && !name.startsWith("libcoap");
        const sample = await load(server, workload, { warmupSeconds: isFirst ? warmupSeconds : 0.3, seconds: SECONDS });
        samples.add(name, `${workload} /s`, sample.perSecond);
        samples.add(name, `${workload} /CPU-s`, sample.perCpuSecond);
        samples.leastLoaderIdle = Math.min(samples.leastLoaderIdle, sample.loaderIdle);
        samples.retransmissions += sample.retransmissions;
      }
    }
  }
  await Promise.all([...servers.values()].map((server) => server.end()));
}

async function measureIdleMemory(): Promise<void> {
  const measured: readonly (readonly [StartedName, Security, "psk" | "certificate"])[] = [
    ["ours", "psk", "psk"],
    ["libcoap-openssl", "psk", "psk"],
    ["ours-mutual", "mutual", "certificate"],
    ["libcoap-mutual", "mutual", "certificate"],
  ];
  for (let repetition = 0; repetition < IDLE_REPETITIONS; repetition++) {
    for (const [name, security, kind] of measured) {
      const server = await START_SERVER[name]();
      const isOurs = name.startsWith("ours");
      // libcoap's sessions are costly, and all alike.
      const sessions = isOurs ? IDLE_SESSIONS : ([500, 2000] as const);
      const { resident, live } = await idleBytes(server, security, sessions, SETTLE_MS, isOurs);
      samples.add(name, `${kind} resident bytes`, resident);
      if (isOurs) samples.add(name, `${kind} live bytes`, live);
      await server.end();
    }
  }
}

/** What is kept of them is the slope after a first lot, which has the program compiled and its heap in shape. */
async function measureHellos(): Promise<void> {
  const server = await START_SERVER.ours();
  await sayHello(server, HELLO_SECONDS);
  const before = await server.liveBytes();
  const { count, answeredPerByte } = await sayHello(server, HELLO_SECONDS);
  samples.add("ours", "hello bytes answered", answeredPerByte);
  samples.add("ours", "hello bytes kept", ((await server.liveBytes()) - before) / count);
  await server.end();
}

async function measureCodec(): Promise<void> {
  const script = fileURLToPath(new URL("codec.js", import.meta.url));
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    const line = await firstLine(spawnPinned("0", process.execPath, [script]));
    const [encoded = 0, decoded = 0, encodedByPeer = 0, decodedByPeer = 0] = line.split(" ").map(Number);
    samples.add("our-codec", "encode µs", encoded);
    samples.add("our-codec", "decode µs", decoded);
    samples.add("coap-packet", "encode µs", encodedByPeer);
    samples.add("coap-packet", "decode µs", decodedByPeer);
  }
}

function markdown(): string {
  const rows = FIGURES.map((figure) => {
    const { ours, peer } = valuesOf(figure);
    const cells = [
      figure.title,
      figure.unit,
      written(ours),
      figure.peer ?? "",
      peer === undefined ? "" : written(peer),
      peer === undefined ? "" : (ours.median / peer.median).toFixed(2),
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
    `The loader found nothing to do in at least ${(100 * samples.leastLoaderIdle).toFixed(0)} % of its polls; ` +
      `${samples.retransmissions} retransmissions.`,
    "",
  ].join("\n");
}

function json(): string {
  const figures = FIGURES.map((figure) => {
    const { ours, peer } = valuesOf(figure);
    const compared =
      peer === undefined ? {} : { peer: { server: figure.peer, ...peer }, ratio: ours.median / peer.median };
    return { title: figure.title, unit: figure.unit, ours, ...compared };
  });
  const { leastLoaderIdle, retransmissions } = samples;
  const report = { machine: machine(), repetitions: REPETITIONS, figures, leastLoaderIdle, retransmissions };
  return `${JSON.stringify(report, null, 2)}\n`;
}

function valuesOf(figure: Figure): { readonly ours: Value; readonly peer: Value | undefined } {
  const { what, peer } = figure;
  return {
    ours: samples.valueOf(figure.ours ?? "ours", what),
    peer: peer === undefined ? undefined : samples.valueOf(peer, figure.peersWhat ?? what),
  };
}

function written({ median, lowest, highest }: Value): string {
  const short = (value: number): string => (Math.abs(value) < 100 ? value.toFixed(2) : String(Math.round(value)));
  return REPETITIONS === 1 ? short(median) : `${short(median)} (${short(lowest)}–${short(highest)})`;
}

function machine(): string {
  return `${cpus().length} × ${cpus()[0]?.model ?? "processor"}, Node.js ${process.versions.node}`;
}
