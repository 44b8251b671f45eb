import { Store } from "#store/index.js";
import { codeOf } from "#testing/code-of.js";
import { freePort } from "#testing/free-port.js";
import { testWith } from "#testing/peer-process.js";
import { RedisPeer, startRedis } from "#testing/redis-peer.js";
import { ReportingDevice } from "#testing/reporting-device.js";
import { folderOf, type ServerProcess, startServerProcess } from "#testing/server-process.js";
import { TcpRelay } from "#testing/tcp-relay.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const DEVICES = 3;

async function startFleet(t: ExecutionContext, store: string) {
  const port = await freePort();
  const server = await startServerProcess(
    t,
    folderOf(t),
    `
store: ${store}
history: { values: 100000 }
http: { port: 0 }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: ${port} }, connection: none, clientAuthentication: [none] }
`,
  );
  const names = Array.from({ length: DEVICES }, (_, index) => `device-${index}`);
  const devices = await Promise.all(names.map((name) => ReportingDevice.open(name, [port])));
  const running = devices.map((device) => device.run(50));
  const stop = async (): Promise<void> => {
    await Promise.all(devices.map((device) => device.stop()));
    await Promise.all(running);
  };
  t.teardown(stop);
  /** Each has further readings acknowledged. */
  const goOn = async (): Promise<void> => {
    const before = devices.map(({ acknowledged }) => acknowledged.length);
    await until(() => devices.every(({ acknowledged }, index) => acknowledged.length > (before[index] ?? 0) + 1));
  };
  await goOn();
  return { server, devices, goOn, stop };
}

const lines = ({ process }: ServerProcess, message: string): readonly string[] =>
  process.output.split("\n").filter((line) => line.includes(`"msg":"${message}"`));

/** What is kept of each is what was acknowledged, each number once, in order; the last may not have been. */
async function isWhole(t: ExecutionContext, url: string, devices: readonly ReportingDevice[]): Promise<void> {
  const store = await Store.open({ type: "redis", url });
  t.teardown(() => store.close());
  for (const [index, { acknowledged }] of devices.entries()) {
    const history = await store.properties.history(`device-${index}`, "count", { limit: 100_000 }, Date.now());
    const values = history.map(({ value }) => Number(value));
    t.deepEqual(
      values,
      Array.from(values, (_, at) => at + 1),
    );
    t.true(values.length >= acknowledged.length, `${values.length} kept of ${acknowledged.length}`);
  }
}

testWith(
  "redis",
  "whatever Redis refuses is told of once with its cause, nothing acknowledged is lost, and the server goes on by itself",
  async (t) => {
    t.timeout(120_000);
    const redis = await RedisPeer.start(t);
    const { server, devices, goOn, stop } = await startFleet(t, redis.url);
    const toldOf = (cause: RegExp): Promise<boolean> =>
      until(() => lines(server, "store-failed").some((line) => cause.test(line)));

    await redis.tell("config", "set", "maxmemory", "1");
    await toldOf(/OOM .* raise its maxmemory/);
    t.regex(await (await fetch(`${server.http}/metrics`)).text(), /^dpe_store_up 0$/m);
    await redis.tell("config", "set", "maxmemory", "0");
    await goOn();

    await redis.tell("replicaof", "127.0.0.1", "1");
    await toldOf(/READONLY .* it is a replica/);
    await redis.tell("replicaof", "no", "one");
    await goOn();

    await redis.restart({ options: ["--appendonly", "yes", "--appendfsync", "always", "--requirepass", "other"] });
    await toldOf(/NOAUTH .* store must name its password/);
    await redis.restart();
    await goOn();

    await redis.restart({ options: ["--appendonly", "no"] });
    await toldOf(/Redis keeps nothing on disk.*STORE_NOT_DURABLE/);
    await redis.restart();
    await goOn();
    await until(() => lines(server, "store-recovered").length > 0);
    t.regex(await (await fetch(`${server.http}/metrics`)).text(), /^dpe_store_up 1$/m);
    t.is(lines(server, "fault").length, 0, "not a line for each request");
    t.true(lines(server, "store-failed").length <= 32);
    await stop();
    await isWhole(t, redis.url, devices);
  },
  test.serial,
);

testWith(
  "redis",
  "a Redis that comes back empty is a store of this version's layout, where devices register anew",
  async (t) => {
    t.timeout(60_000);
    const redis = await RedisPeer.start(t);
    const { devices, goOn } = await startFleet(t, redis.url);
    await redis.restart({ isEmpty: true });
    await goOn();
    t.true(devices.every(({ registrations }) => registrations === 2));
    t.is((await redis.tell("hexists", "dpe:h:meta:", "schema")).trim(), "1");
  },
  test.serial,
);

testWith(
  "redis",
  "a connection that falls silent is made anew, the metrics are there meanwhile, and the server ends in time",
  async (t) => {
    t.timeout(90_000);
    const redis = await RedisPeer.start(t);
    const relay = await TcpRelay.start(t, redis.port);
    const { server, devices, goOn, stop } = await startFleet(t, `redis://127.0.0.1:${relay.port}`);
    relay.swallow();
    const begun = performance.now();
    await until(() => lines(server, "store-failed").length > 0);
    t.regex(await (await fetch(`${server.http}/metrics`)).text(), /^dpe_store_up 0$/m);
    await goOn();
    t.true(performance.now() - begun < 30_000, "it took as long as TCP does, a quarter of an hour");

    relay.swallow();
    server.process.signal("SIGTERM");
    const ended = performance.now();
    t.is(await server.process.exited, 0);
    t.true(performance.now() - ended < 10_000);
    await stop();
    await isWhole(t, redis.url, devices);
  },
  test.serial,
);

testWith(
  "redis",
  "over a slow path that cuts replies in their middle every reading arrives once",
  async (t) => {
    t.timeout(90_000);
    const redis = await RedisPeer.start(t);
    const relay = await TcpRelay.start(t, redis.port);
    const { devices, goOn, stop } = await startFleet(t, `redis://127.0.0.1:${relay.port}`);
    relay.delayMs = 20;
    relay.cutsEvery = 25;
    for (let round = 0; round < 10; round++) await goOn();
    relay.cutsEvery = 0;
    await goOn();
    await stop();
    await isWhole(t, redis.url, devices);
  },
  test.serial,
);

testWith("redis", "a Redis that would make room by forgetting is refused", async (t) => {
  const options = "--appendonly yes --appendfsync always --maxmemory 100mb --maxmemory-policy allkeys-lru";
  const url = await startRedis(t, ...options.split(" "));
  t.is(await codeOf(Store.open({ type: "redis", url })), "STORE_NOT_DURABLE");
});
