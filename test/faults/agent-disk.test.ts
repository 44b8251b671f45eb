import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { freePort } from "#testing/free-port.js";
import { testWithMounts } from "#testing/own-mounts.js";
import { PeerProcess } from "#testing/peer-process.js";
import { DPE } from "#testing/dpe-program.js";
import { folderOf } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";

/** A server, and every value of `counter` that it acknowledged, in order. */
async function serve(t: ExecutionContext, port: number): Promise<readonly number[]> {
  const counts: number[] = [];
  const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${port} }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), (event) => {
    if (event.type !== "report") return;
    for (const { name, value } of event.records) if (name === "c/n") counts.push(Number(value));
  });
  t.teardown(() => server.close());
  return counts;
}

/** An agent that counts once a second, and writes some 3 kB each time; its number survives a restart. */
function agentFile(folder: string, port: number, store: string): string {
  const count = join(folder, "count");
  const filler = `for i in 1 2 3 4 5 6 7 8 9 10; do printf ',"f%d":"%0200d"' $i $n; done`;
  const program = `n=$(($(cat ${count} 2>/dev/null || echo 0) + 1)); echo $n > ${count}; printf '{"n":%d' $n; ${filler}; echo '}'`;
  const file = join(folder, "agent.yaml");
  writeFileSync(
    file,
    `
endpoint: pi-1
server: coaps://127.0.0.1:${port}
store: ${store}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
sources: [{ use: exec, name: c, command: [sh, -c, ${JSON.stringify(program)}], every: 1s }]
`,
    { mode: 0o600 },
  );
  return file;
}

/** The lines of a log with that message. */
const linesOf = (process: PeerProcess, message: string): readonly string[] =>
  process.output.split("\n").filter((line) => line.includes(`"msg":"${message}"`));

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

testWithMounts(
  "a full disk is told of once, loses no reading while the agent runs, and is told of when it is well again",
  async (t) => {
    t.timeout(180_000);
    const folder = folderOf(t);
    const store = join(folder, "data");
    mkdirSync(store);
    const port = await freePort();
    const file = agentFile(folder, port, store);
    const script = `mount -t tmpfs -o size=16k,mode=0700 none ${store} && exec "$@"`;
    const words = ["-Urm", "sh", "-c", script, "sh", process.execPath, DPE, "agent", "--config", file];
    const agent = PeerProcess.start(t, "unshare", words);
    await agent.printed('"msg":"store-failed"', 60_000);
    const [line = ""] = linesOf(agent, "store-failed");
    t.regex(line, /ENOSPC/);
    const atFailure = Number(readFileSync(join(folder, "count"), "utf8"));
    await until(() => Number(readFileSync(join(folder, "count"), "utf8")) >= atFailure + 2);
    t.is(linesOf(agent, "store-failed").length, 1, "told once, not with each reading");

    const counts = await serve(t, port);
    await until(() => counts.length > atFailure + 2);
    t.deepEqual(counts, upTo(counts.length));
    await agent.printed('"msg":"store-recovered"', 60_000);
  },
);

testWithMounts(
  "on a read-only disk an agent starts, says so, and reports what was on it and what it reads",
  async (t) => {
    t.timeout(180_000);
    const folder = folderOf(t);
    const port = await freePort();
    const before = join(folder, "before");
    const first = PeerProcess.start(t, process.execPath, [DPE, "agent", "--config", agentFile(folder, port, before)]);
    const journal = join(before, "unsent.log");
    await until(() => {
      try {
        return readFileSync(journal, "utf8").split('"c/n"').length > 3;
      } catch {
        return false;
      }
    });
    await first.end();

    const store = join(folder, "data");
    mkdirSync(store);
    copyFileSync(journal, join(folder, "kept.log"));
    const file = agentFile(folder, port, store);
    const script = `mount -t tmpfs -o size=1m,mode=0700 none ${store} && cp ${folder}/kept.log ${store}/unsent.log && mount -o remount,ro ${store} && exec "$@"`;
    const words = ["-Urm", "sh", "-c", script, "sh", process.execPath, DPE, "agent", "--config", file];
    const agent = PeerProcess.start(t, "unshare", words);
    await agent.printed('"msg":"store-failed"', 60_000);
    t.regex(linesOf(agent, "store-failed")[0] ?? "", /EROFS/);
    t.is(linesOf(agent, "restored").length, 1);
    const counts = await serve(t, port);
    await until(() => counts.length > 4);
    // What had not reached the disk when the first was killed is not owed; nothing that had is missing, or out of order.
    const kept = [...readFileSync(journal, "utf8").matchAll(/"name":"c\/n",[^{}]*?"value":(\d+)/g)].map(([, value]) =>
      Number(value),
    );
    t.true(kept.length > 2);
    t.deepEqual(counts.slice(0, kept.length), kept);
    t.deepEqual(
      counts,
      counts.toSorted((one, other) => one - other),
    );
    t.is(new Set(counts).size, counts.length);
  },
);

test.serial("where a file can grow no more, the agent goes on as on a full disk", async (t) => {
  t.timeout(180_000);
  const folder = folderOf(t);
  const port = await freePort();
  const file = agentFile(folder, port, join(folder, "data"));
  // In blocks of 512 bytes; what is printed goes to a pipe.
  const words = ["-c", 'ulimit -f 12; exec "$@"', "sh", process.execPath, DPE, "agent", "--config", file];
  const agent = PeerProcess.start(t, "sh", words);
  await agent.printed('"msg":"store-failed"', 60_000);
  t.regex(linesOf(agent, "store-failed")[0] ?? "", /EFBIG/);
  const counts = await serve(t, port);
  await until(() => counts.length > 4);
  t.deepEqual(counts, upTo(counts.length));
});
