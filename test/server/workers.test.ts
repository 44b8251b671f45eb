import { execFile } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { canSharePorts } from "#net/index.js";
import { Fleet, type FleetOptions, UdpLink } from "#sim/index.js";
import { Store } from "#store/index.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { startRedis } from "#testing/redis-peer.js";
import { DPE } from "#testing/dpe-program.js";
import { folderOf } from "#testing/server-process.js";
import { sharingNode } from "#testing/sharing-node.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const KEY = "0123456789abcdef";

/** `more` is further YAML; the server has HTTP and DPE-1 by PSK on any port. */
function configured(folder: string, more: string): string {
  const file = join(folder, "server.yaml");
  writeFileSync(
    file,
    `control: none
http: { port: 0 }
dtls: { associations: ${join(folder, "associations")} }
credentials: { psk: [{ identity: fleet, key: "${KEY}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers:
  - { name: bench, psk: { identity: bench, key: "${KEY}" }, endpoints: ["*"] }
${more}`,
  );
  return file;
}

async function startWorkers(t: ExecutionContext, count: number) {
  const folder = folderOf(t);
  const redis = await startRedis(t);
  const file = configured(folder, `store: ${redis}\n`);
  const server = PeerProcess.start(t, sharingNode(), [DPE, "server", "--config", file, "--workers", String(count)]);
  await server.printed('"msg":"listening"', 50_000);
  const port = Number(/"coaps":"127\.0\.0\.1:(\d+)"/.exec(server.output)?.[1]);
  const http = /http:\/\/127\.0\.0\.1:\d+/.exec(server.output)?.[0] ?? "";
  const store = await Store.open({ type: "redis", url: redis });
  t.teardown(() => store.close());
  return { server, port, http, store };
}

const fleetOptions = (port: number, devices: number): FleetOptions => ({
  scheme: "coaps",
  host: "127.0.0.1",
  port,
  devices,
  profile: "pi",
  stack: "dpe-coap",
  endpointPrefix: "sim-",
  psk: { identity: "bench", key: KEY },
  everyMs: 1000,
  startsPerSecond: 100,
  seed: 1,
});

async function readingsOf(store: Store): Promise<number> {
  let readings = 0;
  for (const { endpoint } of await store.registrations.page({ limit: 100 }, Date.now()))
    for (const { name } of await store.properties.latest(endpoint))
      if (name !== "model") readings += (await store.properties.history(endpoint, name, {}, Date.now())).length;
  return readings;
}

/** What a stream of server-sent events tells until the first of these. */
function firstEvent(url: string, event: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest(url, (answer) => {
      let text = "";
      answer.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        if (!text.includes(`event: ${event}`) || !text.includes("data: ")) return;
        asked.destroy();
        resolve(text);
      });
      answer.on("end", () => resolve(text));
    });
    asked.once("error", reject);
    asked.end();
  });
}

testWith(
  "node24",
  "workers on one port: devices spread, a NAT moves them, one is killed, and nothing acknowledged is lost",
  async (t) => {
    t.timeout(120_000);
    const { server, port, http, store } = await startWorkers(t, 2);
    const link = await UdpLink.open({ listen: { host: "127.0.0.1" }, to: { address: "127.0.0.1", port }, seed: 1 });
    t.teardown(() => link.close());
    const devices = 16;
    const fleet = await Fleet.of(fleetOptions(link.address.port, devices));
    fleet.start();
    const { counts } = fleet.figures;
    const more = async (reports: number): Promise<void> => {
      const before = counts.reports;
      await until(() => counts.reports >= before + reports);
    };
    const metric = async (name: string): Promise<number> => {
      const text = await (await fetch(`${http}/metrics`)).text();
      return Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${name} `))
          ?.slice(name.length) ?? Number.NaN,
      );
    };
    await until(() => fleet.up === devices);
    await more(2 * devices);
    const heardBy = async (): Promise<Map<string, string>> =>
      new Map(
        (await store.registrations.page({ limit: 100 }, Date.now())).map(({ endpoint, heard }) => [
          endpoint,
          heard?.server ?? "",
        ]),
      );
    const before = await heardBy();
    t.is(new Set(before.values()).size, 2, "the kernel gave each process some");
    t.is(await metric("dpe_registrations_total"), devices, "counted over both processes");
    t.is(await metric("dpe_devices"), devices, "of the store, so not twice");
    t.is(await metric("dpe_connections"), devices);

    await link.rebind();
    await more(4 * devices);
    t.deepEqual(await heardBy(), before, "each is heard by the process that has its association");
    t.true((await metric('dpe_steering{counter="forwarded"}')) > 0);
    t.true((await metric('dpe_steering{counter="confirmed"}')) > 0);
    t.is(counts.connectionsLost, 0);

    for (const endpoint of before.keys()) {
      const answer = await fetch(`${http}/api/devices/${endpoint}/query`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ names: ["cpu/temperature"] }),
      });
      t.is(answer.status, 200, `${endpoint} is asked by way of the process that has its association`);
    }
    for (const id of new Set(before.values())) {
      const [endpoint] = [...before].find(([, heard]) => heard === id) ?? [""];
      t.regex(await firstEvent(`${http}/api/devices/${endpoint}/observe?name=uptime`, "properties"), /"uptime"/);
    }

    const pidOf = (index: number): number =>
      Number(new RegExp(`"worker":${index},"pid":(\\d+)`).exec(server.output)?.[1]);
    process.kill(pidOf(1), "SIGKILL");
    await server.printed('"worker":1,"code":null,"signal":"SIGKILL","retryInMs":500,"msg":"worker-ended"');
    await until(() => server.output.match(/"worker":1,"pid":\d+,"msg":"worker-listens"/g)?.length === 2);
    await more(2 * devices);
    server.signal("SIGHUP");
    await until(() => server.output.match(/"msg":"reloaded"/g)?.length === 2);
    t.is(await fleet.settle(30_000), 0);
    t.is(counts.connectionsLost, 0, "the killed process went on with its associations");
    t.is(counts.registrations, devices);
    t.is(await readingsOf(store), counts.readings);
    await fleet.stop();

    server.signal("SIGTERM");
    t.is(await server.exited, 0);
    t.regex(server.output, /"msg":"stopped"\}\s*$/);
  },
);

testWith("node24", "a configuration that several processes cannot share is refused with what to do", async (t) => {
  t.timeout(120_000);
  const folder = folderOf(t);
  const node = sharingNode();
  const run = (file: string): Promise<{ readonly code: number | null; readonly stderr: string }> =>
    new Promise((resolve) => {
      const child = execFile(node, [DPE, "server", "--config", file, "--workers", "2"], (_error, _stdout, stderr) =>
        resolve({ code: child.exitCode, stderr }),
      );
    });
  for (const [more, said] of [
    ["", /--workers 2: without store: .*set store: redis/],
    [`store: ${join(folder, "data")}\n`, /--workers 2: LMDB is for one process.*set store: redis/],
    ["store: redis://127.0.0.1:1\n", /Redis at redis:\/\/127.0.0.1:1 cannot be used/],
  ] as const) {
    const { code, stderr } = await run(configured(folder, more));
    t.regex(stderr, said);
    t.is(code, more.includes("redis") ? 1 : 2);
  }
  t.false(existsSync(join(folder, "data")));
});

test("where a port cannot be shared, one process is used, and that is said", async (t) => {
  for (const [version, can] of [
    ["20.19.0", false],
    ["22.11.0", false],
    ["22.12.0", true],
    ["23.0.0", false],
    ["24.1.0", true],
  ] as const)
    t.is(canSharePorts(version, "linux"), can, version);
  t.false(canSharePorts("24.1.0", "darwin"));
  if (canSharePorts()) return;
  const file = configured(folderOf(t), "");
  const server = PeerProcess.start(t, process.execPath, [DPE, "server", "--config", file, "--workers", "4"]);
  await server.printed('"msg":"listening"', 50_000);
  t.regex(server.output, /cannot share a UDP port between processes .*: one process is used/);
});
