import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { FIGURES, Samples } from "./figures.js";
import { idleBytes, load, observe, sayHello, type Security, type WorkloadName } from "./load.js";
import { json, machine, markdown, type Part, type Report, table, update } from "./report.js";
import { allLines, firstLine, type Server, spawnPinned, type StartedName, START_SERVER } from "./servers.js";

/**
 * Measures our server against its peers within one run, servers on one core and the load on another, and prints a Markdown
 * table of medians and ratios. Only the ratios carry over to other machines.
 *
 *   --quick    shorter samples, one of each
 *   --json     prints JSON instead; it is left in dist/bench/report.json in any case
 *   --update   writes the tables into README.md and docs/performance.md too
 */
const isQuick = process.argv.includes("--quick");
/** Many short samples, in turn: the speed of a machine that others share changes within seconds. */
const REPETITIONS = isQuick ? 1 : 25;
const SECONDS = isQuick ? 0.7 : 0.3;
const CODEC_REPETITIONS = isQuick ? 1 : 7;
/** A program in JavaScript is compiled as it runs: it is the number of rounds that counts, not their time. */
const WARM_UP: Readonly<Record<WorkloadName, number>> = {
  "encrypted-get": 60_000,
  "encrypted-get-single": 30_000,
  "plain-get": 60_000,
  "plain-beside-encrypted": 60_000,
  "psk-handshake": 30_000,
  "psk-handshake-few": 30_000,
  "ecdsa-handshake": 3000,
  "mutual-handshake": 2000,
};
const IDLE_SESSIONS = isQuick ? ([1000, 3000] as const) : ([2000, 10_000] as const);
const IDLE_REPETITIONS = isQuick ? 1 : 2;
const OBSERVING_PEERS = isQuick ? 1250 : 12_500;
const OBSERVERS_EACH = 8;
const SETTLE_MS = 1500;
const HELLO_SECONDS = isQuick ? 1 : 3;

/**
 * Which servers are measured in turn, and under which workload. Handshakes come first, as in the life of a server: in a
 * process that has answered requests before one takes 6 % longer (docs/performance.md).
 */
const TURNS: readonly (readonly (readonly [StartedName, WorkloadName])[])[] = [
  under("psk-handshake", "ours", "libcoap-openssl"),
  under("psk-handshake-few", "ours", "libcoap-openssl"),
  under("ecdsa-handshake", "ours", "libcoap-openssl"),
  under("mutual-handshake", "ours-mutual", "libcoap-mutual"),
  [...under("encrypted-get", "ours", "libcoap-openssl"), ...under("plain-beside-encrypted", "node-coap")],
  under("encrypted-get-single", "ours", "libcoap-openssl"),
  under("plain-get", "ours", "libcoap-notls", "node-coap", "ours-by-serve", "node-dgram"),
];

/** Programs of their own, each of which prints Markdown. */
const PARTS: readonly (readonly [title: string, script: string, ...options: readonly string[]])[] = [
  ["What Digest costs, by its scope", "digest-scopes.js", isQuick ? "0.3" : "1"],
  ["Durable reports", "store.js", ...(isQuick ? ["--quick"] : [])],
  ["The agent", "agent.js", ...(isQuick ? ["--quick"] : [])],
  ["Whether time tells an unknown user from a wrong password", "unknown-user.js", isQuick ? "5000" : "20000"],
];

const NOT_MEASURED = "not measured";
const samples = new Samples();
const begin = performance.now();
for (const measure of [measureLoads, measureIdleMemory, measureObservers, measureHellos, measureCodec]) {
  process.stderr.write(`bench: ${measure.name}, after ${((performance.now() - begin) / 1000).toFixed(0)} s\n`);
  await measure();
}
const parts: Part[] = [];
for (const part of PARTS) parts.push(await run(part));
const root = fileURLToPath(new URL("../../../", import.meta.url));
const sizes = `${root}dist/bench/firmware-size.txt`;
parts.push({
  title: "The firmware bridge on a Cortex-M3, -Os, bytes",
  markdown: existsSync(sizes) ? readFileSync(sizes, "utf8").trim() : `${NOT_MEASURED}: no arm-none-eabi-gcc`,
});
const report: Report = {
  date: new Date().toISOString(),
  machine: machine(),
  repetitions: REPETITIONS,
  minutes: (performance.now() - begin) / 60_000,
  loaderIdle: samples.usualLoaderIdle(),
  retransmissions: samples.retransmissions,
  findings: FIGURES.map((figure) => samples.finding(figure)),
  parts,
};
mkdirSync(`${root}dist/bench`, { recursive: true });
writeFileSync(`${root}dist/bench/report.json`, json(report));
process.stdout.write(process.argv.includes("--json") ? json(report) : markdown(report));
if (process.argv.includes("--update")) {
  update(`${root}README.md`, table(report));
  update(`${root}docs/performance.md`, markdown(report));
}
process.exitCode = parts.some(({ markdown: text }) => text.startsWith(NOT_MEASURED)) ? 1 : 0;

/** Servers stay up, and are measured in turn, there and back, so that a drift of the machine's speed meets all alike. */
async function measureLoads(): Promise<void> {
  const servers = new Map<StartedName, Server>();
  for (const [name] of TURNS.flat()) if (!servers.has(name)) servers.set(name, await START_SERVER[name]());
  for (const turn of TURNS) {
    const inTurn = turn.flatMap(([name, workload]) => {
      const server = servers.get(name);
      return server === undefined ? [] : [{ name, workload, server }];
    });
    for (const { name, workload, server } of inTurn)
      if (!name.startsWith("libcoap")) await load(server, workload, { warmUp: WARM_UP[workload], seconds: 0.1 });
    for (let repetition = 0; repetition < REPETITIONS; repetition++) {
      for (const { name, workload, server } of repetition % 2 === 0 ? inTurn : inTurn.toReversed()) {
        const sample = await load(server, workload, { warmUp: WARM_UP[workload] / 100, seconds: SECONDS });
        samples.add(name, `${workload} /s`, sample.perSecond);
        samples.add(name, `${workload} /CPU-s`, sample.perCpuSecond);
        samples.loaderIdle.push(sample.loaderIdle);
        samples.retransmissions += sample.retransmissions;
      }
    }
  }
  await Promise.all([...servers.values()].map((server) => server.end()));
}

function under(
  workload: WorkloadName,
  ...names: readonly StartedName[]
): readonly (readonly [StartedName, WorkloadName])[] {
  return names.map((name) => [name, workload]);
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

async function measureObservers(): Promise<void> {
  for (const kind of ["NON", "CON"] as const) {
    const server = await START_SERVER["ours-observed"]();
    const cost = await observe(server, {
      peers: OBSERVING_PEERS,
      each: OBSERVERS_EACH,
      isConfirmable: kind === "CON",
      rounds: isQuick ? 2 : 5,
      settleMs: SETTLE_MS,
    });
    samples.add("ours-observed", `observer ${kind} live bytes`, cost.liveBytes);
    samples.add("ours-observed", `observer ${kind} resident bytes`, cost.residentBytes);
    for (const seconds of cost.roundSeconds) samples.add("ours-observed", `observer ${kind} round s`, seconds);
    for (const each of cost.cpuMicroseconds) samples.add("ours-observed", `observer ${kind} µs`, each);
    await server.end();
  }
}

/** What is kept of them is the slope after a first lot, which has the program compiled and its heap in shape. */
async function measureHellos(): Promise<void> {
  const server = await START_SERVER.ours();
  await sayHello(server, HELLO_SECONDS);
  const before = await server.ask("live");
  const { count, answeredPerByte } = await sayHello(server, HELLO_SECONDS);
  samples.add("ours", "hello bytes answered", answeredPerByte);
  samples.add("ours", "hello bytes kept", ((await server.ask("live")) - before) / count);
  await server.end();
}

async function measureCodec(): Promise<void> {
  const script = fileURLToPath(new URL("codec.js", import.meta.url));
  for (let repetition = 0; repetition < CODEC_REPETITIONS; repetition++) {
    const line = await firstLine(spawnPinned("0", process.execPath, [script]));
    const [encoded = 0, decoded = 0, encodedByPeer = 0, decodedByPeer = 0] = line.split(" ").map(Number);
    samples.add("our-codec", "encode µs", encoded);
    samples.add("our-codec", "decode µs", decoded);
    samples.add("coap-packet", "encode µs", encodedByPeer);
    samples.add("coap-packet", "decode µs", decodedByPeer);
  }
}

/** One that fails is said to, and the others go on. */
async function run([title, script, ...options]: (typeof PARTS)[number]): Promise<Part> {
  process.stderr.write(`bench: ${script}, after ${((performance.now() - begin) / 1000).toFixed(0)} s\n`);
  const file = fileURLToPath(new URL(script, import.meta.url));
  if (!existsSync(file)) return { title, markdown: `${NOT_MEASURED}: there is no ${script}` };
  try {
    return { title, markdown: await allLines(spawnPinned("0", process.execPath, [file, ...options])) };
  } catch (error) {
    return { title, markdown: `${NOT_MEASURED}: ${error instanceof Error ? error.message : String(error)}` };
  }
}
