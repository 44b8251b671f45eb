import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { checkStore, openBackend, Store, type StoreLocation } from "#store/index.js";
import { freePort } from "#testing/free-port.js";
import { testWith } from "#testing/peer-process.js";
import { startRedis } from "#testing/redis-peer.js";
import { ReportingDevice } from "#testing/reporting-device.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

/** A small part in every run; all of it: DPE_KILLS=50 DPE_KILL_DEVICES=200. */
const KILLS = Number(process.env["DPE_KILLS"] ?? 2);
const DEVICES = Number(process.env["DPE_KILL_DEVICES"] ?? 10);

const serverYaml = (store: string, port: number): string => `
store: ${store}
history: { values: 100000 }
http: { port: 0 }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: ${port} }, connection: none, clientAuthentication: [none] }
`;

/** Many devices take turns, on all of which a server begins. */
const PATIENT = { withinMs: 120_000 };

async function survives(t: ExecutionContext, location: StoreLocation, store: string): Promise<void> {
  t.timeout(600_000);
  const folder = folderOf(t);
  const port = await freePort();
  const yaml = serverYaml(store, port);
  let server = await startServerProcess(t, folder, yaml);
  const devices = await Promise.all(
    Array.from({ length: DEVICES }, (_, index) => ReportingDevice.open(`device-${index}`, [port])),
  );
  const running = devices.map((device) => device.run(20));
  const total = (): number => devices.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0);
  for (let kill = 0; kill < KILLS; kill++) {
    // Killed while reports are on the way: each time after some more were acknowledged than before.
    const before = total();
    await until(() => total() >= before + DEVICES * 3, PATIENT);
    await server.process.end();
    server = await startServerProcess(t, folder, yaml);
  }
  const before = devices.map(({ acknowledged }) => acknowledged.length);
  await until(() => devices.every(({ acknowledged }, index) => acknowledged.length > (before[index] ?? 0)), PATIENT);
  await Promise.all(devices.map((device) => device.stop()));
  await Promise.all(running);
  await server.process.end();

  const backend = await openBackend(location);
  for await (const { invariant, message } of checkStore(backend)) t.fail(`${invariant}: ${message}`);
  const { properties } = await Store.on(backend, { limits: { maxValues: 100_000 } });
  let kept = 0;
  for (const [index, { acknowledged }] of devices.entries()) {
    const history = await properties.history(`device-${index}`, "count", {}, Date.now());
    const values = history.map(({ value }) => Number(value));
    // In the order of time each number comes once; the last may be kept without having been acknowledged.
    t.deepEqual(
      values,
      Array.from(values, (_, at) => at + 1),
      `device-${index}`,
    );
    t.true(values.length >= acknowledged.length, `device-${index}: ${values.length} kept of ${acknowledged.length}`);
    kept += values.length;
  }
  await backend.close();
  t.log(`${KILLS} kills, ${DEVICES} devices: ${total()} readings acknowledged, ${kept} kept`);
}

test.serial("kill -9 of a server on LMDB under load loses nothing acknowledged, keeps nothing twice", (t) => {
  const folder = join(folderOf(t), "store");
  return survives(t, { type: "lmdb", folder }, folder);
});

testWith(
  "redis",
  "kill -9 of a server on Redis under load loses nothing acknowledged, keeps nothing twice",
  async (t) => {
    const url = await startRedis(t);
    await survives(t, { type: "redis", url }, url);
  },
  test.serial,
);

testWith(
  "redis",
  "two servers share one Redis: a device is asked through the other, and moves on when its server is killed",
  async (t) => {
    t.timeout(120_000);
    const url = await startRedis(t);
    const ports = [await freePort(), await freePort()] as const;
    const [first, second] = await Promise.all(
      ports.map((port) => startServerProcess(t, folderOf(t), serverYaml(url, port))),
    );
    const device = await ReportingDevice.open("pi-1", ports);
    const running = device.run(50);
    const acknowledged = async (count: number): Promise<void> => {
      await until(() => device.acknowledged.length >= count);
    };
    const ask = async (): Promise<number> => {
      const answer = await fetch(`${second!.http}/api/devices/pi-1/query`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: '{"names":["count"]}',
      });
      const { properties } = (await answer.json()) as { readonly properties?: readonly { readonly value: number }[] };
      return properties?.[0]?.value ?? -1;
    };
    await acknowledged(3);
    t.is(device.port, ports[0]);
    t.true((await ask()) >= 3, "asked through the server that it is not connected to");
    await first!.process.end();
    const before = device.acknowledged.length;
    await acknowledged(before + 3);
    t.is(device.port, ports[1]);
    t.true((await ask()) > before);
    const count = device.acknowledged.length;
    const answer = await fetch(`${second!.http}/api/devices/pi-1/history?name=count`);
    const { values } = (await answer.json()) as { readonly values: readonly { readonly value: number }[] };
    const numbers = values.map(({ value }) => value);
    t.deepEqual(
      numbers,
      Array.from(numbers, (_, at) => at + 1),
    );
    t.true(numbers.length >= count);
    await device.stop();
    await running;
  },
  test.serial,
);

testWith(
  "redis",
  "an agent whose server is killed moves on to the next one of the same Redis by itself, and loses no reading",
  async (t) => {
    t.timeout(300_000);
    const url = await startRedis(t);
    const key = "000102030405060708090a0b0c0d0e0f";
    const secureYaml = (port: number): string => `
store: ${url}
http: { port: 0 }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${port} }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${key}" }, endpoints: ["*"] }]
`;
    const [one, other] = [await freePort(), await freePort()];
    const first = await startServerProcess(t, folderOf(t), secureYaml(one));
    const second = await startServerProcess(t, folderOf(t), secureYaml(other));
    const yaml = `
endpoint: pi-1
server: [coaps://127.0.0.1:${one}, coaps://127.0.0.1:${other}]
failover: { giveUpAfter: 2s, returnAfter: 1h }
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${key}" } } }
`;
    let count = 0;
    const events: AgentEvent[] = [];
    const source = {
      name: "count",
      everyMs: 500,
      read: () => Promise.resolve([{ name: "count", value: ++count }]),
    };
    const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [source], (event) => events.push(event));
    t.teardown(() => agent.close());
    const registeredAt = (): string[] => events.flatMap((event) => (event.type === "registered" ? [event.server] : []));
    const reported = (): number => events.filter(({ type }) => type === "reported").length;
    const ask = async (): Promise<number> => {
      const answer = await fetch(`${second.http}/api/devices/pi-1/query`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: '{"names":["count"]}',
      });
      const { properties } = (await answer.json()) as { readonly properties?: readonly { readonly value: number }[] };
      return properties?.[0]?.value ?? -1;
    };
    await until(() => reported() > 1);
    t.true((await ask()) > 0, "asked through the server that it is not connected to");
    await first.process.end();
    // The report on its way is given up after 45 to 93 s (RFC 7252 §4.8.2): only then is the server known not to answer.
    await until(() => registeredAt().length > 1);
    t.deepEqual(registeredAt(), [`coaps://127.0.0.1:${one}`, `coaps://127.0.0.1:${other}`]);
    const atReturn = reported();
    await until(() => reported() > atReturn && agent.unsent === 0);
    t.true((await ask()) > 0);
    const answer = await fetch(`${second.http}/api/devices/pi-1/history?name=count`);
    const { values } = (await answer.json()) as { readonly values: readonly { readonly value: number }[] };
    const numbers = values.map(({ value }) => value);
    t.deepEqual(
      numbers,
      Array.from(numbers, (_, at) => at + 1),
    );
  },
  test.serial,
);
