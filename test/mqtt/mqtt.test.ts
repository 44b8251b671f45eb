import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { ReportingDevice } from "#testing/reporting-device.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { CoapClient } from "#api/index.js";
import { discoveryOf } from "#mqtt/discovery.js";
import { Forwarder } from "#mqtt/index.js";
import { MAX_LEVELS, topicOf } from "#mqtt/topic.js";
import { Store } from "#store/index.js";
import { connect } from "mqtt";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

async function broker(t: ExecutionContext, folder: string, port: number, more = ""): Promise<PeerProcess> {
  const file = join(folder, "mosquitto.conf");
  writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n${more}`);
  const mosquitto = PeerProcess.start(t, "/usr/sbin/mosquitto", ["-v", "-c", file]);
  await mosquitto.printed("running", 30_000);
  return mosquitto;
}

/** Everything that the broker is told from now on, by topic. */
function listen(t: ExecutionContext, port: number): Map<string, string[]> {
  const heard = new Map<string, string[]>();
  const client = connect(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 100 });
  client.on("connect", () => client.subscribe("#", { qos: 1 }));
  client.on("message", (topic, payload) => heard.set(topic, [...(heard.get(topic) ?? []), payload.toString()]));
  t.teardown(() => client.endAsync(true));
  return heard;
}

testWith(
  "mosquitto",
  "readings reach MQTT at least once, also those taken while broker or server were away",
  async (t) => {
    t.timeout(120_000);
    const folder = folderOf(t);
    const [coap, mqtt] = [await freePort(), await freePort()];
    const yaml = `
store: ${join(folder, "store")}
mqtt: { url: "mqtt://127.0.0.1:${mqtt}" }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: ${coap} }, connection: none, clientAuthentication: [none] }
`;
    const first = await broker(t, folder, mqtt);
    const heard = listen(t, mqtt);
    const server = await startServerProcess(t, folder, yaml);
    // Whatever the time and the names of one device are, the others' readings are not held up.
    const odd = new CoapClient();
    const deep = `a${"/".repeat(250)}b`;
    const pack = JSON.stringify([
      { n: "status", v: 7, t: 1e300 },
      { n: deep, v: 8 },
    ]);
    t.true(
      (
        await odd.request(`coap://127.0.0.1:${coap}/dpe1/reg?ep=odd`, {
          method: "POST",
          payload: pack,
          contentFormat: 110,
        })
      ).ok,
    );
    await odd.close();
    const device = await ReportingDevice.open("pi.1", [coap]);
    const running = device.run(50);
    const values = (): number[] =>
      (heard.get("dpe/pi.1/count") ?? []).map((text) => (JSON.parse(text) as { readonly value: number }).value);
    const reaches = async (count: number): Promise<void> => {
      await until(() => values().includes(count));
    };
    await reaches(3);
    t.is(heard.get("dpe/status")?.at(-1), "online");
    t.like(JSON.parse(heard.get("dpe/odd/_status")?.at(-1) ?? "{}"), { value: 7, time: "+275760-09-13T00:00:00.000Z" });
    t.like(JSON.parse(heard.get(topicOf("dpe", "odd", deep))?.at(-1) ?? "{}"), { value: 8 });
    t.is(heard.get("dpe/odd/status")?.at(-1), "online", "a property of that name is not in its place");
    t.is(heard.get("dpe/pi.1/status")?.at(-1), "online");
    const [config = "{}"] = heard.get("homeassistant/sensor/dpe_pi_2e1__count/config") ?? [];
    t.like(JSON.parse(config), {
      unique_id: "dpe_pi_2e1__count",
      state_topic: "dpe/pi.1/count",
      device: { identifiers: ["dpe_pi_2e1"], name: "pi.1" },
    });

    await first.end();
    const whileAway = device.acknowledged.length;
    await until(() => device.acknowledged.length >= whileAway + 5);
    await server.process.end();
    await broker(t, folder, mqtt);
    await startServerProcess(t, folder, yaml);
    const last = device.acknowledged.length + 1;
    await reaches(last);
    await device.stop();
    await running;
    const known = new Set(values());
    t.deepEqual(
      device.acknowledged.filter((count) => count <= last && !known.has(count)),
      [],
      "none is missing",
    );
  },
);

testWith(
  "mosquitto",
  "a message at which the broker ends the connection is left out and told of; no other is, also when the broker restarts",
  async (t) => {
    t.timeout(120_000);
    const folder = folderOf(t);
    const port = await freePort();
    const limit = "max_packet_size 1000\n";
    let mosquitto = await broker(t, folder, port, limit);
    const heard = listen(t, port);
    const store = await Store.open({ type: "memory" }, { hasOutbox: true });
    t.teardown(() => store.close());
    // Readings of one time are one.
    let time = Date.now() / 1000 - 10_000;
    const reports = async (endpoint: string): Promise<(name: string, value: number | string) => Promise<void>> => {
      const asked = { endpoint, subscriber: undefined, lifetimeSeconds: 600, isQueueMode: false };
      const at = { records: [], server: store.server };
      const dpe2 = { type: "association" } as const;
      const { registration } = await store.registrations.register({ ...asked, dpe2 }, at, Date.now());
      return async (name, value) => {
        const records = [{ name, value, timeSeconds: (time += 1) }];
        await store.registrations.report(registration.id, undefined, { records, server: store.server }, Date.now());
      };
    };
    const [honest, odd] = [await reports("pi-1"), await reports("odd")];
    const isolated: string[] = [];
    let refused = 0;
    const forwarder = Forwarder.start({
      store,
      url: `mqtt://127.0.0.1:${port}`,
      topic: "dpe",
      discovery: "none",
      onState: () => undefined,
      onForwarded: () => undefined,
      onDropped: () => undefined,
      onIsolated: (topic, bytes) => isolated.push(`${topic} ${bytes > 5000}`),
      onRefused: (messages) => (refused += messages),
    });
    t.teardown(() => forwarder.close());
    const values = (topic: string): unknown[] =>
      (heard.get(topic) ?? []).map((text) => (JSON.parse(text) as { readonly value: unknown }).value);
    let count = 0;
    const reportAll = async (many: number): Promise<void> => {
      for (let n = 0; n < many; n++) await honest("count", ++count);
    };
    await reportAll(30);
    await odd("text", "x".repeat(6000));
    await reportAll(30);
    await odd("text", "short");
    await until(() => values("dpe/pi-1/count").includes(60) && values("dpe/odd/text").includes("short"), {
      withinMs: 60_000,
    });
    t.deepEqual(isolated, ["dpe/odd/text true"]);
    t.true(refused >= 1);
    // What is like it is not tried again.
    const before = refused;
    await odd("text", "y".repeat(7000));
    await reportAll(1);
    await until(() => values("dpe/pi-1/count").includes(61), { withinMs: 60_000 });
    t.is(refused, before + 1);

    for (let restart = 0; restart < 2; restart++) {
      const sending = reportAll(300);
      await mosquitto.end();
      await sending;
      mosquitto = await broker(t, folder, port, limit);
      await until(() => values("dpe/pi-1/count").includes(count), { withinMs: 60_000 });
    }
    const known = new Set(values("dpe/pi-1/count"));
    t.deepEqual(
      Array.from({ length: count }, (_, n) => n + 1).filter((n) => !known.has(n)),
      [],
    );
    t.is(isolated.length, 1);
    // A value is heard before the forwarder knows that the broker has it.
    t.true(await until(async () => (await store.outbox.count()) === 0));
  },
);

test("no two properties make one entity of Home Assistant", (t) => {
  const idOf = (endpoint: string, name: string) => discoveryOf(endpoint, { name, value: 1 }, "dpe").topic;
  t.not(idOf("a", "3ab/c"), idOf("a:b", "2fc"));
});

test("each property has a topic of its own, of as many levels as brokers take", (t) => {
  const deep = [62, 63, 64].flatMap((slashes) => [`a${"/".repeat(slashes)}`, `${"a/".repeat(slashes)}b`]);
  const names = ["a", "a/b", "status", ...deep, `a${"/".repeat(250)}`];
  const topics = names.map((name) => topicOf("dpe", "pi", name));
  t.is(new Set(topics).size, names.length);
  t.deepEqual(topics.slice(0, 4), ["dpe/pi/a", "dpe/pi/a/b", "dpe/pi/_status", `dpe/pi/${names[3]}`]);
  t.is(Math.max(...topics.map((topic) => topic.split("/").length)), 2 + MAX_LEVELS);
});
