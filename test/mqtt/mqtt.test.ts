import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { ReportingDevice } from "#testing/reporting-device.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { CoapClient } from "#api/index.js";
import { discoveryOf } from "#mqtt/discovery.js";
import { MAX_LEVELS, topicOf } from "#mqtt/topic.js";
import { connect } from "mqtt";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

async function broker(t: ExecutionContext, folder: string, port: number): Promise<PeerProcess> {
  const file = join(folder, "mosquitto.conf");
  writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n`);
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
