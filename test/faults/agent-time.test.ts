import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { UdpRelay } from "#testing/udp-relay.js";
import { VirtualTime } from "#testing/virtual-time.js";
import test from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";
const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 86_400_000;

test.serial(
  "after an hour without network every reading arrives once, in order, with the time at which it was read",
  async (t) => {
    t.timeout(180_000);
    const time = new VirtualTime();
    t.teardown(() => time.restore());
    const folder = mkdtempSync(join(tmpdir(), "dpe-hour-"));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const readings: { readonly value: number; readonly timeSeconds: number }[] = [];
    const serverYaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
    const server = await DpeServer.start(parseConfig(serverYaml, "server.yaml", SERVER_SCHEMA), (event) => {
      if (event.type !== "report") return;
      for (const { name, value, timeSeconds = 0 } of event.records)
        if (name === "counter") readings.push({ value: Number(value), timeSeconds });
    });
    const path = { seed: 1, loss: 0, reordering: 0, holdUpMs: 0 };
    const relay = await UdpRelay.start(server.addresses.coaps?.port ?? 0, path);
    const events: AgentEvent[] = [];
    let count = 0;
    const readAt: number[] = [];
    const source: Source = {
      name: "counter",
      everyMs: 10_000,
      read: () => {
        readAt.push(performance.timeOrigin + performance.now());
        return Promise.resolve([{ name: "counter", value: ++count }]);
      },
    };
    const yaml = `
endpoint: pi-1
server: coaps://127.0.0.1:${relay.port}
store: ${folder}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
`;
    const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [source], (event) => events.push(event));
    await time.until(() => readings.length > 1);
    const registered = events.filter(({ type }) => type === "registered").length;

    path.loss = 1;
    await time.pass(HOUR_MS);
    const lost = events.filter((event) => event.type === "lost");
    t.true(lost.length > 10, "it tried all the while");
    t.true(lost.every(({ retryInMs }) => retryInMs <= 60_000));
    t.true(agent.unsent >= 355, `${agent.unsent} wait`);
    t.false(events.some(({ type }) => type === "dropped" || type === "refused"));

    path.loss = 0;
    const atReturn = count;
    await time.until(() => readings.length > atReturn);
    t.true(events.filter(({ type }) => type === "registered").length > registered);
    t.deepEqual(
      readings.map(({ value }) => value),
      Array.from(readings, (_, index) => index + 1),
    );
    for (const [index, { timeSeconds }] of readings.entries())
      t.true(Math.abs(timeSeconds * 1000 - (readAt[index] ?? 0)) < 3000, `reading ${index + 1}`);

    // A clock that is set back a year: told of, and no reading is dated by it.
    time.wallOffsetMs = -YEAR_MS;
    const atStep = readings.length;
    await time.until(() => readings.length > atStep + 3);
    t.deepEqual(
      events.filter(({ type }) => type === "clock"),
      [{ type: "clock", isTrusted: false }],
    );
    const times = readings.map(({ timeSeconds }) => timeSeconds);
    t.deepEqual(
      times,
      times.toSorted((one, other) => one - other),
    );
    time.wallOffsetMs = 0;
    const atRight = readings.length;
    await time.until(() => readings.length > atRight + 1);
    t.deepEqual(events.filter(({ type }) => type === "clock").at(-1), { type: "clock", isTrusted: true });

    const closing = Promise.all([agent.close(), server.close()]);
    let isClosed = false;
    void closing.then(() => (isClosed = true));
    await time.until(() => isClosed);
    relay.close();
  },
);

test.serial("a clock that is set between a reading and its report dates it right", async (t) => {
  t.timeout(60_000);
  const time = new VirtualTime();
  t.teardown(() => time.restore());
  const trueNow = (): number => performance.timeOrigin + performance.now();
  const times: number[] = [];
  const serverYaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
  const server = await DpeServer.start(parseConfig(serverYaml, "server.yaml", SERVER_SCHEMA), (event) => {
    if (event.type === "report") for (const { timeSeconds = 0 } of event.records) times.push(timeSeconds);
  });
  const path = { seed: 1, loss: 1, reordering: 0, holdUpMs: 0 };
  const relay = await UdpRelay.start(server.addresses.coaps?.port ?? 0, path);
  const yaml = `
endpoint: pi-1
server: coaps://127.0.0.1:${relay.port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
`;
  // As a device without a battery for its clock starts, which was off since summer.
  time.wallOffsetMs = -YEAR_MS / 3;
  const readAt = trueNow();
  const source: Source = {
    name: "door",
    everyMs: HOUR_MS,
    read: () => Promise.resolve([{ name: "door", value: true }]),
  };
  const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [source]);
  await time.pass(30_000);
  t.is(agent.unsent, 1);
  time.wallOffsetMs = 0;
  path.loss = 0;
  await time.until(() => times.length > 0);
  t.true(Math.abs((times[0] ?? 0) * 1000 - readAt) < 3000, `${new Date((times[0] ?? 0) * 1000).toISOString()}`);
  const closing = Promise.all([agent.close(), server.close()]);
  let isClosed = false;
  void closing.then(() => (isClosed = true));
  await time.until(() => isClosed);
  relay.close();
});
