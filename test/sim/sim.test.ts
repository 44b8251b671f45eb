import { execFile } from "node:child_process";
import { parseConfig } from "#config/index.js";
import { UdpSocket } from "#net/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import {
  DEVICE_PROFILES,
  Fleet,
  FleetFigures,
  type FleetOptions,
  htmlReport,
  parseExpectation,
  parseLinkChange,
  parseLinkConditions,
  UdpLink,
} from "#sim/index.js";
import { DPE } from "#testing/dpe-program.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const KEY = "0123456789abcdef";

/** A server, and how often it took each reading, told apart by endpoint, property and time. */
async function serve(t: ExecutionContext) {
  const taken = new Map<string, number>();
  const refusals: string[] = [];
  const yaml = `
credentials: { psk: [{ identity: fleet, key: "${KEY}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk, digest] }
subscribers:
  - { name: bench, psk: { identity: bench, key: "${KEY}" }, endpoints: ["*"] }
  - { name: alice, password: secret, endpoints: ["*"] }
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), (event) => {
    if (event.type === "authentication-error") refusals.push(event.error);
    if (event.type !== "report") return;
    for (const { name, timeSeconds } of event.records) {
      if (name === "model") continue;
      const key = `${event.registration.endpoint} ${name} ${timeSeconds}`;
      taken.set(key, (taken.get(key) ?? 0) + 1);
    }
  });
  t.teardown(() => server.close());
  return { server, taken, refusals, port: server.addresses.coaps?.port ?? 0 };
}

const options = (port: number, more: Partial<FleetOptions> = {}): FleetOptions => ({
  scheme: "coaps",
  host: "127.0.0.1",
  port,
  devices: 10,
  profile: "pi",
  stack: "dpe-coap",
  endpointPrefix: "sim-",
  psk: { identity: "bench", key: KEY },
  everyMs: 1000,
  startsPerSecond: 1000,
  seed: 1,
  ...more,
});

test("200 devices over DTLS: every reading that was acknowledged is at the server, once", async (t) => {
  const { taken, port } = await serve(t);
  const fleet = await Fleet.of(options(port, { devices: 200, everyMs: 4000, startsPerSecond: 100 }));
  fleet.start();
  await until(() => fleet.figures.counts.reports >= 600);
  t.is(await fleet.settle(30_000), 0);
  t.is(fleet.up, 200);
  const report = await fleet.stop();
  t.is(report.counts.registrations, 200);
  t.is(taken.size, report.counts.readings);
  t.deepEqual(new Set(taken.values()), new Set([1]));
  t.deepEqual(report.errors, {});
});

test("behind a link that loses, delays, doubles and rebinds, no reading is lost and no association", async (t) => {
  const { taken, port } = await serve(t);
  const link = await UdpLink.open({
    listen: { host: "127.0.0.1" },
    to: { address: "127.0.0.1", port },
    conditions: { loss: 0.1, duplication: 0.1, reordering: 0.1, delay: 5, jitter: 10 },
    seed: 7,
  });
  t.teardown(() => link.close());
  const fleet = await Fleet.of(options(link.address.port, { devices: 10 }));
  fleet.start();
  await until(() => fleet.up === 10 && fleet.figures.counts.reports >= 10);
  // Not before: in a handshake a flipped bit ends it, as it should.
  link.setConditions({ corruption: 0.02 });
  const { paths } = link;
  await link.rebind();
  t.is(link.counters.rebound, paths);
  const before = fleet.figures.counts.reports;
  await until(() => fleet.figures.counts.reports >= before + 20);
  link.setConditions({ loss: 0, corruption: 0 });
  t.is(await fleet.settle(30_000), 0);
  const report = await fleet.stop();
  t.is(report.counts.registrations, 10, "a new address needs no new registration");
  t.is(report.counts.connectionsLost, 0);
  t.is(taken.size, report.counts.readings);
  t.true(link.counters.lost > 0 && link.counters.duplicated > 0 && paths >= 10);
});

test("a fleet whose associations all end at once comes back, and nothing that it read is lost", async (t) => {
  const { server, taken, port } = await serve(t);
  const fleet = await Fleet.of(options(port, { devices: 20 }));
  fleet.start();
  await until(() => fleet.up === 20 && fleet.figures.counts.reports >= 20);
  server.endAssociationsOf("bench");
  await until(() => fleet.figures.counts.registrations === 40);
  const before = fleet.figures.counts.reports;
  await until(() => fleet.figures.counts.reports >= before + 20);
  t.is(await fleet.settle(30_000), 0);
  const { counts } = await fleet.stop();
  t.is(counts.connectionsLost, 20);
  t.is(taken.size, counts.readings);
});

test("sleepers come back each time, with their registration", async (t) => {
  const { server, taken, port } = await serve(t);
  const fleet = await Fleet.of(options(port, { devices: 3, profile: "battery-sensor" }));
  fleet.start();
  await until(() => fleet.figures.counts.registrations >= 6 && taken.size >= 12);
  t.is(await server.store.registrations.count(), 3);
  await fleet.stop();
});

test("devices of node-dtls-client and coap-packet register, report and answer DPE-2", async (t) => {
  const { server, taken, port } = await serve(t);
  const fleet = await Fleet.of(options(port, { devices: 5, stack: "third-party", profile: "pi" }));
  fleet.start();
  await until(() => fleet.up === 5 && fleet.figures.counts.reports >= 10);
  t.true(taken.size >= 50);
  const [temperature] = await server.query("sim-1", "cpu/temperature");
  t.is(temperature?.unit, "Cel");
  t.is(fleet.figures.counts.queries, 1);
  await fleet.stop();
  t.true(
    (await server.store.registrations.page({ limit: 10 }, Date.now())).every(
      ({ registration }) => registration === undefined,
    ),
  );
});

test("hostile devices are refused, and honest ones beside them are served", async (t) => {
  const { taken, refusals, port } = await serve(t);
  const credentials = { psk: { identity: "fleet", key: KEY }, username: "alice", password: "secret" };
  const hostile = await Fleet.of(
    options(port, { ...credentials, devices: 5, profile: "hostile", endpointPrefix: "evil-" }),
  );
  const honest = await Fleet.of(options(port, { devices: 5 }));
  hostile.start();
  honest.start();
  await until(() => honest.figures.counts.reports >= 20 && hostile.figures.counts.refused >= 5);
  await hostile.stop();
  t.is(await honest.settle(30_000), 0);
  const report = await honest.stop();
  t.is(report.counts.connectionsLost, 0);
  t.is(taken.size, report.counts.readings);
  t.true(refusals.includes("invalid-credentials"));
  t.false([...taken.keys()].some((key) => key.startsWith("evil-")));
});

test("a seed gives the same readings again, another seed others", (t) => {
  for (const profile of Object.values(DEVICE_PROFILES)) {
    const run = (seed: number): unknown => [0, 1, 2].map(profile.readings(seed));
    t.deepEqual(run(5), run(5));
    t.notDeepEqual(run(5), run(6));
  }
});

test("a link does to datagrams what its conditions say", async (t) => {
  const server = await UdpSocket.bind({ host: "127.0.0.1" });
  const device = await UdpSocket.bind({ host: "127.0.0.1" });
  const seen: { readonly bytes: Uint8Array; readonly port: number }[] = [];
  server.onDatagram = (datagram, from) => seen.push({ bytes: Uint8Array.from(datagram), port: from.port });
  const link = await UdpLink.open({ listen: { host: "127.0.0.1" }, to: server.address, seed: 3 });
  t.teardown(() => Promise.all([server.close(), device.close(), link.close()]));
  const send = (count: number, length = 4): void => {
    for (let index = 0; index < count; index++) device.send(new Uint8Array(length).fill(index), link.address);
  };
  const handled = (): number => link.counters.forwarded + link.counters.lost + link.counters.oversized;

  send(10);
  await until(() => seen.length === 10);
  t.deepEqual(seen[3]?.bytes, new Uint8Array(4).fill(3));
  link.setConditions(parseLinkConditions("mtu=100"));
  send(5, 101);
  await until(() => link.counters.oversized === 5);
  link.setConditions(parseLinkConditions("cut"));
  send(5);
  await until(() => link.counters.lost === 5);
  link.setConditions(parseLinkConditions("restored,corruption=1,duplication=1"));
  send(2);
  await until(() => seen.length === 14);
  for (const [index, { bytes }] of seen.slice(10).entries()) {
    const flipped = bytes.reduce((sum, byte) => sum + ((byte ^ (index >> 1)).toString(2).match(/1/g)?.length ?? 0), 0);
    t.is(flipped, 1);
  }
  t.is(handled(), 24);
  await link.rebind();
  link.setConditions(parseLinkConditions("corruption=0,duplication=0"));
  send(1);
  await until(() => seen.length === 15);
  t.not(seen[14]?.port, seen[0]?.port);
});

test("conditions, changes and expectations are parsed, and refused with those that there are", (t) => {
  t.deepEqual(parseLinkConditions("loss=0.5,delay=10"), { loss: 0.5, delay: 10 });
  t.deepEqual(parseLinkChange("2m:cut,rebind"), { atMs: 120_000, conditions: { isCut: true }, rebind: true });
  t.throws(() => parseLinkConditions("loss=2"), { message: /loss=0…1/ });
  t.throws(() => parseLinkChange("600h:cut"), { message: /24 days/ });
  t.throws(() => parseLinkChange("soon:cut"), { message: /as in 10s:loss=0.5/ });
  t.throws(() => parseExpectation("losses=0"), { message: /names are .*lost/ });

  const figures = new FleetFigures(0);
  for (let ms = 1; ms <= 100; ms++) figures.addLatency(ms);
  figures.add("reports", 100);
  figures.sample(1000, 5);
  const report = figures.report(1000);
  const holds = (text: string, unsent = 0): boolean => parseExpectation(text).faultIn(report, unsent) === undefined;
  t.true(holds("reports=100"));
  t.true(holds("lost=0"));
  t.false(holds("lost=0", 1));
  t.true(holds("p50>=47") && holds("p50<=53") && holds("p99>=94") && holds("p99<=105"));
  t.regex(parseExpectation("reports>100").faultIn(report, 0) ?? "", /reports is 100/);
  const page = htmlReport("10 <devices>", report);
  t.regex(page, /10 &lt;devices>/);
  t.is(page.match(/<rect/g)?.length, report.histogram.length);
});

test("dpe sim says what is wrong with its words, and fails when an expectation does not hold", async (t) => {
  const { port } = await serve(t);
  const run = (
    ...words: string[]
  ): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> =>
    new Promise((resolve) => {
      const child = execFile(process.execPath, [DPE, "sim", ...words], (_error, stdout, stderr) =>
        resolve({ code: child.exitCode, stdout, stderr }),
      );
    });
  for (const [words, said] of [
    [[], /^dpe sim: --server URI is missing\nusage: dpe sim/],
    [["--server", "http://x"], /--server: http:\/\/x: expected a coap/],
    [["--server", "coaps://x", "--profile", "pie"], /pie is none of pi, battery-sensor, gateway, hostile/],
    [["--server", "coaps://x", "--stack", "third-party"], /needs --psk/],
    [["--server", "coap://x", "--duration", "30d"], /--duration: 30d: .*at most 24d/],
    [["--server", "coap://x", "--every", "30d"], /--every: 30d: .*at most 24d/],
    [["link"], /^dpe sim link: --to HOST:PORT is missing/],
  ] as const) {
    const { code, stderr } = await run(...words);
    t.is(code, 2, stderr);
    t.regex(stderr, said);
  }
  const server = ["--server", `coaps://127.0.0.1:${port}`, "--psk", `bench:${KEY}`];
  const run2s = ["--devices", "2", "--every", "1s", "--duration", "2s"];
  const { code, stdout, stderr } = await run(
    ...server,
    ...run2s,
    "--expect",
    "registrations=2",
    "--expect",
    "queries=1",
  );
  t.is(code, 1, stdout);
  t.is(stderr, "dpe: queries=1 does not hold: queries is 0\n");
  const refused = await run("--server", `coaps://127.0.0.1:${port}`, "--psk", `bench:00${KEY}`, ...run2s);
  t.like(refused, { code: 1, stderr: "dpe: no device was registered; most often: DTLS_ALERT_RECEIVED\n" });
});
