import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { issueThrowawayCredentials } from "#x509/index.js";
import { DPE } from "#testing/dpe-program.js";

/**
 * Measures `dpe agent` on this machine, beside a `dpe server` on loopback: how long it takes from its start until it is
 * registered, with a pre-shared key and with certificates, and what it takes of memory and processor while it reports this
 * machine every 10 s. Prints a Markdown table.
 *
 *   --quick   fewer starts, a shorter watch    --json   prints JSON instead
 */
const isQuick = process.argv.includes("--quick");
const STARTS = isQuick ? 3 : 9;
const WATCH_SECONDS = isQuick ? 21 : 61;
const KEY = "000102030405060708090a0b0c0d0e0f";

const folder = mkdtempSync(join(tmpdir(), "dpe-bench-agent-"));
const children = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const port = await startServer();
const rows: Row[] = [
  ...(await coldStarts("psk", `serverAuthentication: psk, credentials: { psk: { identity: a, key: "hex:${KEY}" } }`)),
  ...(await coldStarts(
    "certificate",
    `serverAuthentication: certificate, ca: ${join(folder, "ca.pem")}, credentials: { username: bob, password: secret-word }`,
  )),
  ...(await steadyState()),
];
process.stdout.write(process.argv.includes("--json") ? `${JSON.stringify(rows, null, 2)}\n` : markdown());
process.exit(0);

interface Row {
  readonly title: string;
  readonly unit: string;
  readonly value: number;
  readonly aim: string;
}

async function startServer(): Promise<number> {
  const issued = await issueThrowawayCredentials({
    commonName: "bench",
    purpose: "serverAuth",
    ip: ["127.0.0.1"],
    atMs: Date.now(),
  });
  writeFileSync(join(folder, "ca.pem"), issued.authority.certificatePem);
  writeFileSync(join(folder, "server.pem"), issued.certificatePem);
  writeFileSync(join(folder, "server.key"), issued.privateKeyPem, { mode: 0o600 });
  const yaml = `
control: none
realm: bench
credentials: { certificate: ${join(folder, "server.pem")}, key: ${join(folder, "server.key")} }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk, digest] }
subscribers:
  - { name: alice, psk: { identity: a, key: "hex:${KEY}" }, endpoints: ["*"] }
  - { name: bob, password: secret-word, endpoints: ["*"] }
`;
  const { line } = await start("server", yaml, '"msg":"listening"');
  const { coaps } = JSON.parse(line) as { readonly coaps: string };
  return Number(coaps.split(":").at(-1));
}

/** Each start is of a new process with nothing of an earlier one: no session, no store. */
async function coldStarts(name: string, security: string): Promise<readonly Row[]> {
  const wall: number[] = [];
  const cpu: number[] = [];
  for (let run = 0; run < STARTS; run++) {
    const { child, tookMs, cpuMs } = await start("agent", agentYaml(`${name}-${run}`, security), '"msg":"registered"');
    wall.push(tookMs);
    cpu.push(cpuMs);
    await end(child);
  }
  return [
    { title: `cold start to registered (${name})`, unit: "ms", value: median(wall), aim: "≤ 600" },
    { title: "the same: processor time", unit: "ms", value: median(cpu), aim: "" },
  ];
}

async function steadyState(): Promise<readonly Row[]> {
  const security = `serverAuthentication: psk, credentials: { psk: { identity: a, key: "hex:${KEY}" } }`;
  const { child } = await start("agent", agentYaml("steady", security), '"msg":"registered"');
  const pid = child.pid ?? 0;
  // What starting took is not of the steady state.
  await sleep(5000);
  const [before, at] = [cpuMsOf(pid), performance.now()];
  await sleep(WATCH_SECONDS * 1000);
  const share = (100 * (cpuMsOf(pid) - before)) / (performance.now() - at);
  const [resident, highest] = ["VmRSS", "VmHWM"].map((field) => statusBytes(pid, field) / 1e6);
  await end(child);
  return [
    { title: "resident memory, reporting the machine every 10 s", unit: "MB", value: resident ?? 0, aim: "≤ 70" },
    { title: "the same, at its highest", unit: "MB", value: highest ?? 0, aim: "" },
    { title: "the same: share of one processor", unit: "%", value: share, aim: "≤ 1" },
  ];
}

function agentYaml(endpoint: string, security: string): string {
  return `
endpoint: ${endpoint}
server: coaps://127.0.0.1:${port}
store: ${join(folder, endpoint)}
interfaces:
  dpe1: { connection: dtls, ${security} }
sources: [{ use: host, every: 10s }]
`;
}

interface Started {
  readonly child: ChildProcess;
  readonly line: string;
  readonly tookMs: number;
  readonly cpuMs: number;
}

/** Fulfilled with the line of its log that has `expected`. */
function start(command: "server" | "agent", yaml: string, expected: string): Promise<Started> {
  const file = join(folder, `${command}.yaml`);
  writeFileSync(file, yaml, { mode: 0o600 });
  const startedAt = performance.now();
  const child = spawn(process.execPath, [DPE, command, "--config", file], { stdio: ["ignore", "pipe", "inherit"] });
  children.add(child);
  return new Promise((resolve, reject) => {
    let output = "";
    child.once("exit", (code) => reject(new Error(`dpe ${command} ended with ${code}: ${output}`)));
    child.stdout.on("data", (data: Buffer) => {
      output += data.toString();
      const line = output.split("\n").find((one) => one.includes(expected));
      if (line === undefined) return;
      child.stdout.removeAllListeners("data").resume();
      resolve({ child, line, tookMs: performance.now() - startedAt, cpuMs: cpuMsOf(child.pid ?? 0) });
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

/** User and system time, proc(5): fields 14 and 15, in hundredths of a second. */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function statusBytes(pid: number, field: string): number {
  const [, kilobytes] =
    new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[values.length >> 1] ?? 0;
}

function markdown(): string {
  const lines = rows.map(
    ({ title, unit, value, aim }) => `| ${title} | ${unit} | ${value.toFixed(value < 10 ? 2 : 0)} | ${aim} |`,
  );
  return ["| the agent | unit | ours | aim |", "|---|---|---|---|", ...lines, ""].join("\n");
}
