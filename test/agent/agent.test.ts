import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { CODE, serve as serveCoap } from "#api/index.js";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { DPE } from "#testing/dpe-program.js";
import { freePort } from "#testing/free-port.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "dpe-agent-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A server on that port (0: any), and every value of `counter` that it acknowledged, in order. */
async function serve(t: ExecutionContext, port: number) {
  const counts: number[] = [];
  const times: number[] = [];
  const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${port} }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), (event) => {
    if (event.type !== "report") return;
    for (const { name, value, timeSeconds } of event.records) {
      if (name !== "counter" || typeof value !== "number") continue;
      counts.push(value);
      times.push(timeSeconds ?? 0);
    }
  });
  t.teardown(() => server.close());
  return { server, counts, times, port: server.addresses.coaps?.port ?? 0 };
}

const agentYaml = (port: number, more = ""): string => `
endpoint: pi-1
server: coaps://127.0.0.1:${port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
${more}
`;

function counter(everyMs: number): Source {
  let count = 0;
  return { name: "counter", everyMs, read: () => Promise.resolve([{ name: "counter", value: ++count }]) };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

test("RFC 8516 §4: a server that has too many requests is left alone for as long as it says", async (t) => {
  const asked: number[] = [];
  const busy = await serveCoap(
    () => {
      asked.push(performance.now());
      return { code: CODE.TooManyRequests, maxAgeSeconds: 3 };
    },
    { host: "127.0.0.1", port: 0 },
  );
  t.teardown(() => busy.close());
  const events: AgentEvent[] = [];
  const yaml = `
endpoint: pi-1
server: coap://127.0.0.1:${busy.address?.port}
interfaces: { dpe1: { connection: none, serverAuthentication: none } }
`;
  const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [counter(50)], (event) =>
    events.push(event),
  );
  t.teardown(() => agent.close());
  await until(() => asked.length >= 2);
  t.true((asked[1] ?? 0) - (asked[0] ?? 0) >= 3000, "the first server's own back-off begins at half a second");
  const lost = events.find(({ type }) => type === "lost");
  t.true(lost?.type === "lost" && lost.retryInMs >= 3000);
});

test("what was read while there was no server arrives when there is one, in order and dated by when it was read", async (t) => {
  const port = await freePort();
  const events: AgentEvent[] = [];
  const agent = new DpeAgent(parseConfig(agentYaml(port), "agent.yaml", AGENT_SCHEMA), [counter(20)], (event) =>
    events.push(event),
  );
  t.teardown(() => agent.close());
  await until(() => agent.unsent >= 20);
  const { counts, times } = await serve(t, port);
  await until(() => counts.length >= 25);
  t.deepEqual(counts, upTo(counts.length));
  t.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
  t.true((times[19] ?? 0) - (times[0] ?? 0) >= 0.1, "each has its own time");
});

test("readings survive kill -9 of the agent, and a restarted one reports them once", async (t) => {
  const folder = folderOf(t);
  const port = await freePort();
  const count = join(folder, "count");
  writeFileSync(count, "0");
  const config = join(folder, "agent.yaml");
  const program = `n=$(($(cat ${count}) + 1)); echo $n > ${count}; echo $n`;
  const store = join(folder, "data");
  writeFileSync(
    config,
    agentYaml(
      port,
      `store: ${store}\nsources: [{ use: exec, name: counter, command: [sh, -c, ${JSON.stringify(program)}], every: 1s }]`,
    ),
  );
  const killed = start(t, ["agent", "--config", config]);
  const journal = join(store, "unsent.log");
  await until(() => existsSync(journal) && readFileSync(journal, "utf8").split('"counter"').length > 3);
  killed.kill("SIGKILL");
  await exitOf(killed);
  const { server, counts } = await serve(t, port);
  const once = start(t, ["agent", "--config", config, "--once"]);
  t.is(await exitOf(once), 0);
  await until(() => counts.length > 2);
  t.deepEqual(counts, upTo(counts.length), "none lost, none twice");
  t.truthy(await server.store.registrations.ofEndpoint("pi-1", Date.now()), "--once leaves its registration");
});

test("--once with a server that has no address ends in one line and exit code 1", async (t) => {
  const config = join(folderOf(t), "agent.yaml");
  writeFileSync(config, agentYaml(1).replace("127.0.0.1", "no-such-host.invalid"));
  const child = start(t, ["agent", "--config", config, "--once"]);
  let stderr = "";
  child.stderr?.on("data", (data: Buffer) => (stderr += data.toString()));
  t.is(await exitOf(child), 1);
  t.regex(
    stderr,
    /^dpe: coaps:\/\/no-such-host\.invalid:1: .*the host name has no address.*\(AGENT_SERVER_UNREACHABLE\)\n$/,
  );
});

test("a store that cannot be used ends the agent in one line and exit code 2", async (t) => {
  const folder = folderOf(t);
  const config = join(folder, "agent.yaml");
  writeFileSync(join(folder, "file"), "");
  writeFileSync(config, agentYaml(1, `store: ${folder}/file/data`));
  const child = start(t, ["agent", "--config", config]);
  let stderr = "";
  child.stderr?.on("data", (data: Buffer) => (stderr += data.toString()));
  t.is(await exitOf(child), 2);
  t.regex(stderr, /^dpe: the folder for unsent readings cannot be used: ENOTDIR.*\(AGENT_STORE_FAILED\)\n$/);
});

function start(t: ExecutionContext, words: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [DPE, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  t.teardown(() => child.kill("SIGKILL"));
  return child;
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once("close", (code) => resolve(code)));
}
