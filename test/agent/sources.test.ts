import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type Reading, type Source } from "#agent/index.js";
import { Properties } from "#agent/properties.js";
import { DeviceClock } from "#agent/queue/device-clock.js";
import { hostClock } from "#agent/queue/host-clock.js";
import { Outbox } from "#agent/queue/outbox.js";
import { nextBatch } from "#agent/queue/report-batch.js";
import { ChangeFilter, DEFAULT_CHANGE_RULE } from "#agent/sources/change-rule.js";
import { sourcesOf } from "#agent/sources/configured-sources.js";
import { readingsOf } from "#agent/sources/json-readings.js";
import { Sampler } from "#agent/sources/sampler.js";
import { parseConfig, renderConfig } from "#config/index.js";
import { until } from "#testing/until.js";
import test from "ava";

const AGENT = `
endpoint: pi
server: coap://127.0.0.1
interfaces: { dpe1: { connection: none, serverAuthentication: none } }
`;

/** The one source of a configuration, as the agent makes it. */
function sourceOf(yaml: string): Source {
  const [source] = sourcesOf(parseConfig(`${AGENT}sources: [${yaml}]`, "agent.yaml", AGENT_SCHEMA).sources);
  if (source === undefined) throw new Error("no source");
  return source;
}

const failureOf = (source: Source): Promise<string> => source.read().then(String, (error: Error) => error.message);

test("changes pass, repetitions only after the longest interval, small ones not at all", (t) => {
  const filter = new ChangeFilter([
    {
      ...DEFAULT_CHANGE_RULE,
      match: "cpu/*",
      deadBand: 0.5,
      minInterval: 10_000,
      maxInterval: 60_000,
      importance: "low",
    },
  ]);
  const at = (nowMs: number, value: number): number => filter.select([{ name: "cpu/load", value }], nowMs).length;
  t.is(at(0, 1), 1);
  t.is(at(5000, 9), 0, "within the shortest interval");
  t.is(at(12_000, 1.5), 0, "within the dead band");
  t.is(at(13_000, 1.6), 1);
  t.is(at(72_999, 1.6), 0);
  t.is(at(73_000, 1.6), 1, "after the longest interval");
  t.deepEqual(filter.select([{ name: "cpu/load", value: 9 }], 200_000)[0]?.importance, "low");
});

test("a static property is left to the registration, and reported when it changes", (t) => {
  const filter = new ChangeFilter([]);
  const at = (nowMs: number, value: string): number =>
    filter.select([{ name: "os", value, kind: "static" }], nowMs).length;
  t.is(at(0, "Debian 12"), 0);
  t.is(at(1_000_000, "Debian 12"), 0);
  t.is(at(1_000_001, "Debian 13"), 1);
});

test("numbers, words and objects become properties; anything else is an error", (t) => {
  const shown = (text: string): string[] =>
    readingsOf(text, "s").map(({ name, value, unit }) => `${name}=${String(value)}${unit ?? ""}`);
  t.deepEqual(shown("21.5\n"), ["s=21.5"]);
  t.deepEqual(shown("running"), ["s=running"]);
  t.deepEqual(shown('{"a": 1, "b": {"c": true, "d": null}, "e": {"value": 3.3, "unit": "V"}}'), [
    "s/a=1",
    "s/b/c=true",
    "s/e=3.3V",
  ]);
  for (const bad of ["", "[1]", "{", "two\nlines", '{"a b": 1}', '{"a":{"b":{"c":{"d":{"e":1}}}}}'])
    t.throws(() => readingsOf(bad, "s"), { code: "AGENT_BAD_READING" }, bad);
});

test("exec runs a program without a shell, and says how it failed", async (t) => {
  t.deepEqual(await sourceOf('{ use: exec, name: solar, command: [echo, "{\\"power\\": 120}"], unit: W }').read(), [
    { name: "solar/power", unit: "W", value: 120 },
  ]);
  t.deepEqual(await sourceOf('{ use: exec, name: s, command: [echo, "$HOME;x"] }').read(), [
    { name: "s", value: "$HOME;x" },
  ]);
  t.is(
    await failureOf(sourceOf("{ use: exec, name: s, command: [no-such-program] }")),
    "s: no-such-program: no such program",
  );
  t.is(await failureOf(sourceOf('{ use: exec, name: s, command: [sh, -c, "exit 3"] }')), "s: sh: ended with 3");
  t.is(
    await failureOf(sourceOf('{ use: exec, name: s, command: [sleep, "60"], timeout: 100ms }')),
    "s: sleep: not done after 100 ms",
  );
});

test("what a program of exec has started ends with it, by its time, its output and the agent's end", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-exec-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "pid");
  // The shell waits for a program of its own, which holds the output open.
  const endless = (then: string): string => JSON.stringify(["sh", "-c", `sleep 300 & echo $! > ${file}; ${then}`]);
  const ends: [string, string, RegExp, boolean][] = [
    ["wait", "500ms", /not done after 500 ms/, false],
    ["yes", "30s", /prints more than 65536 bytes/, false],
    ["wait", "30s", /no longer wanted/, true],
  ];
  for (const [then, timeout, why, isClosed] of ends) {
    const source = sourceOf(`{ use: exec, name: s, command: ${endless(then)}, timeout: ${timeout} }`);
    const failed = failureOf(source);
    const pid = await until(() => existsSync(file) && (Number(readFileSync(file, "utf8")) || false));
    if (isClosed) await source.close?.();
    t.regex(await failed, why);
    await until(() => !isRunning(pid));
    rmSync(file);
  }
});

function isRunning(pid: number): boolean {
  const state = /^State:\s+(\w)/m.exec(
    existsSync(`/proc/${pid}/status`) ? readFileSync(`/proc/${pid}/status`, "utf8") : "",
  );
  return state !== null && state[1] !== "Z";
}

test("file reads a number of the kernel and scales it", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-source-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "temp1_input");
  writeFileSync(path, "21562\n");
  const source = sourceOf(`{ use: file, name: room, path: ${path}, unit: Cel, scale: 0.001 }`);
  t.deepEqual(await source.read(), [{ name: "room", unit: "Cel", value: 21.562 }]);
  rmSync(path);
  t.is(await failureOf(source), `room: ${path}: no such file`);
});

test("a FIFO, a device or a socket in the place of a file is refused at once, and other files are read meanwhile", async (t) => {
  t.timeout(20_000);
  const folder = mkdtempSync(join(tmpdir(), "dpe-source-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "fifo");
  execFileSync("mkfifo", [path]);
  const socket = createServer().listen(join(folder, "socket"));
  await new Promise((resolve) => socket.once("listening", resolve));
  t.teardown(() => socket.close());
  const at = (place: string): Source => sourceOf(`{ use: file, name: room, path: ${place} }`);
  const refusals = await Promise.all([1, 2, 3, 4, 5, 6].map(() => failureOf(at(path))));
  for (const refusal of refusals) t.regex(refusal, /this is a FIFO or a device, not a file/);
  t.regex(await failureOf(at("/dev/zero")), /this is a FIFO or a device, not a file/);
  t.regex(await failureOf(at(join(folder, "socket"))), /this is no file/);
  t.regex(await failureOf(at(folder)), /this is a folder/);
  t.true(Number((await at("/proc/sys/kernel/pid_max").read())[0]?.value) > 0);
  t.true(Number((await at("/sys/class/net/lo/mtu").read())[0]?.value) > 0);
});

test("http reads JSON within its time and size", async (t) => {
  const server = createServer((request, response) => {
    if (request.url === "/ok") response.end('{"t": 20}');
    else if (request.url === "/long") response.end("x".repeat(100_000));
    else if (request.url === "/key") response.end(String(request.headers["x-key"]));
    else if (request.url === "/moved") response.writeHead(302, { location: "/key" }).end();
    else if (request.url?.startsWith("/refused") === true) response.writeHead(503).end();
  }).listen(0, "127.0.0.1");
  t.teardown(() => server.close().closeAllConnections());
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  const at = (path: string, timeout = "20s"): Source =>
    sourceOf(`{ use: http, name: h, url: "http://127.0.0.1:${port}${path}", timeout: ${timeout} }`);
  t.deepEqual(await at("/ok").read(), [{ name: "h/t", value: 20 }]);
  t.regex(await failureOf(at("/refused")), /answered 503/);
  t.regex(await failureOf(at("/silent", "300ms")), /no answer in time/);
  t.regex(await failureOf(at("/long")), /longer than/);
  const told = await failureOf(at("/refused?key=s3cret#s3cret"));
  t.regex(told, /http:\/\/127\.0\.0\.1:\d+\/refused answered 503/);
  t.notRegex(told + (await failureOf(at("/silent?key=s3cret", "300ms"))), /s3cret/, "a key after ? is told nobody");
  const named = t.throws(() => sourceOf('{ use: http, name: h, url: "http://me:s3cret@127.0.0.1/" }'), {
    message: /agent\.yaml:5.*url.*(user name|password)/s,
  });
  t.notRegex(String(named?.message), /s3cret/);
  const withKey = (path: string): string =>
    `{ use: http, name: h, url: "http://127.0.0.1:${port}${path}", headers: { X-Key: "text:a key" } }`;
  t.deepEqual(await sourceOf(withKey("/key")).read(), [{ name: "h", value: "a key" }]);
  t.regex(await failureOf(sourceOf(withKey("/moved"))), /answered 302/, "nor is it told to another place");
  const config = parseConfig(`${AGENT}sources: [${withKey("/key?k=s3cret")}]`, "agent.yaml", AGENT_SCHEMA);
  const shown = renderConfig(AGENT_SCHEMA, config);
  t.notRegex(shown, /a key|s3cret/, "dpe check masks both");
  t.true(shown.includes(`url: http://127.0.0.1:${port}/key?[secret]`));
});

test("a source that hangs or fails holds up no other, and is told of once until it is well", async (t) => {
  const faults: string[] = [];
  const outbox = new Outbox();
  let reads = 0;
  const flaky = (): Promise<readonly Reading[]> =>
    ++reads <= 2 ? Promise.reject(new Error("broken")) : Promise.resolve([{ name: "f", value: reads }]);
  const sampler = new Sampler(
    [
      { name: "hanging", everyMs: 5, read: () => new Promise(() => undefined) },
      { name: "flaky", everyMs: 5, read: flaky },
      { name: "good", everyMs: 1000, read: () => Promise.resolve([{ name: "g", value: 1 }]) },
    ],
    {
      clock: new DeviceClock(hostClock()),
      properties: new Properties(),
      outbox,
      onClock: () => undefined,
      onSourceFault: (source, error) => faults.push(`${source} ${error === undefined ? "well" : "failed"}`),
    },
  );
  t.teardown(() => sampler.stop());
  await until(() => outbox.oldest(100).some(([, { name }]) => name === "f"));
  t.is(outbox.oldest(1)[0]?.[1].name, "g");
  t.deepEqual(faults, ["flaky failed", "flaky well"]);
});

test("a reading that no report can carry holds up no other, and is told of once until it is well", async (t) => {
  const faults: string[] = [];
  const outbox = new Outbox();
  const properties = new Properties();
  const bad = readingsOf(`{ "v": 1e999, "t": "\\ud800", "${"n".repeat(300)}": 1, "good": 1 }`, "meter");
  let times = 0;
  const sampler = new Sampler(
    [{ name: "meter", everyMs: 2, read: () => Promise.resolve(++times < 4 ? bad : readingsOf("2", "meter")) }],
    {
      clock: new DeviceClock(hostClock()),
      properties,
      outbox,
      onClock: () => undefined,
      onSourceFault: (_source, error) => faults.push(error instanceof Error ? error.message : "well"),
    },
  );
  t.teardown(() => sampler.stop());
  await until(() => faults.length >= 2);
  t.regex(faults[0] ?? "", /^meter\/v: .*; meter\/t: .*; meter\/nnn/);
  t.is(faults[1], "well");
  t.deepEqual(
    properties.select().map(({ name }) => name),
    ["meter/good", "meter"],
  );
  t.deepEqual(nextBatch(outbox, new DeviceClock(hostClock()), 1000)?.names, ["meter/good", "meter"]);
});

test("wrong sources are refused with their place", (t) => {
  for (const [yaml, said] of [
    ["{ use: hots }", /sources\[0\]\.use/],
    ["{ use: exec, name: a }", /sources\[0\]\.command/],
    ["{ use: file, name: '/x', path: /x }", /sources\[0\]\.name: .*property's name/],
    ["{ use: http, name: a, url: ftp://x }", /sources\[0\]\.url: .*http/],
    ["{ use: host, rules: [{ match: '*', deadBand: -1 }] }", /deadBand/],
    ["{ use: firmware, port: /dev/ttyACM0, every: 30d }", /every: expected a duration of at least 1s and at most 1d/],
    ["{ use: host, evry: 10s }", /evry.*did you mean "every"/],
  ] as const) {
    t.regex(t.throws(() => sourceOf(yaml))?.message ?? "", said);
  }
});
