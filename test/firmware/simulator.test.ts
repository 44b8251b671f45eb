import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";
import { checkFirmware, FirmwareBridge, type FirmwareEvent, openWire } from "#bridge/index.js";
import { checksumOf } from "#bridge/json-lines.js";
import { encodeCoapFrame } from "#bridge/slipmux.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { built } from "./build.js";
import { paired, reported } from "./pairing.js";

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "firmware-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The simulator on a pty or Unix socket of its own. */
async function simulate(t: ExecutionContext, kind: "pty" | "unix", ...options: readonly string[]) {
  const { folder } = await built("simulator");
  const where = join(folderOf(t), "mcu");
  const simulator = PeerProcess.start(t, join(folder, "dpe-simulator"), [`--${kind}`, where, ...options]);
  await simulator.printed("ready ");
  return { simulator, port: kind === "pty" ? where : `unix:${where}` };
}

function bridged(t: ExecutionContext, port: string, everyMs = 1000) {
  const events: FirmwareEvent[] = [];
  const bridge = new FirmwareBridge({ port, everyMs }, (event) => events.push(event));
  t.teardown(() => bridge.close());
  const count = (type: FirmwareEvent["type"]): number => events.filter((event) => event.type === type).length;
  const valuesOf = (name: string): unknown[] =>
    events.flatMap((event) =>
      event.type === "readings"
        ? event.readings.filter((reading) => reading.name === name).map(({ value }) => value)
        : [],
    );
  return { bridge, events, count, valuesOf };
}

testWith(
  "firmware-cc",
  "a microcontroller's properties are discovered, observed, read, and set within bounds",
  async (t) => {
    const { simulator, port } = await simulate(t, "unix", "--counter", "50");
    const { bridge, events, valuesOf } = bridged(t, port);
    await until(() => bridge.isConnected);
    t.deepEqual(
      bridge.properties.map(({ name, unit, isObservable, isWritable }) => [name, unit, isObservable, isWritable]),
      [
        ["temperature", "Cel", true, false],
        ["supply/voltage", "V", true, false],
        ["reset/cause", undefined, false, false],
        ["uptime", "s", false, false],
        ["button", undefined, true, false],
        ["led", undefined, true, true],
        ["led/blink", "s", false, true],
        ["label", undefined, true, true],
        ["counter", undefined, true, false],
      ],
    );
    await until(() => valuesOf("counter").length > 3);
    simulator.write("button 1\n");
    await until(() => valuesOf("button").includes(true));
    t.is((await bridge.read("reset/cause"))[0]?.value, "power-on");
    t.is(valuesOf("reset/cause")[0], "power-on");

    await bridge.write("led", true);
    await simulator.printed("led 1");
    await bridge.write("led/blink", 1.25);
    t.is((await bridge.read("led/blink"))[0]?.value, 1.25);
    await bridge.write("label", "kitchen ÄÀ");
    t.is((await bridge.read("label"))[0]?.value, "kitchen ÄÀ");
    await until(() => valuesOf("label").includes("kitchen ÄÀ"));
    const refusals: readonly (readonly [string, string | number | boolean])[] = [
      ["led/blink", 10.001],
      ["led/blink", -1],
      ["led/blink", 0.0001],
      ["label", "longer than 16 bytes"],
      ["led", 1],
      ["temperature", 20],
    ];
    for (const [name, value] of refusals)
      await t.throwsAsync(bridge.write(name, value), { code: "BRIDGE_REFUSED" }, `${name} ${value}`);
    t.is((await bridge.read("led/blink"))[0]?.value, 1.25);
    await t.throwsAsync(async () => bridge.read("nothing"), { code: "BRIDGE_NOT_SUPPORTED" });

    simulator.write("log \u001b[2Jhello\n");
    await until(() => events.find((event) => event.type === "diagnostic" && event.text === "\\x1b[2Jhello"));
  },
);

// DPE_FIRMWARE_ROUNDS=100 npx ava dist/test/firmware/simulator.test.js is the long run, which also judges the times.
const ROUNDS = Number(process.env["DPE_FIRMWARE_ROUNDS"] ?? 0);

/** Whatever the microcontroller saw acknowledged was given on, in that order. */
function assertNothingLost(t: ExecutionContext, simulator: PeerProcess, values: readonly unknown[]): void {
  const acknowledged = [...simulator.output.matchAll(/^acknowledged counter (\d+)$/gm)].map(([, value]) =>
    Number(value),
  );
  t.true(acknowledged.length > 0);
  let at = 0;
  for (const value of acknowledged) {
    const found = values.indexOf(value, at);
    t.true(found >= 0, `counter ${value} was acknowledged and not given on`);
    at = found + 1;
  }
}

function assertTimes(t: ExecutionContext, times: readonly number[]): void {
  const slowest = Math.max(...times);
  t.log(`${times.length} times: ${Math.round(slowest)} ms at most until it was connected again`);
  if (ROUNDS > 0) t.true(slowest <= 2000);
}

testWith(
  "firmware-cc",
  "reset in mid-frame, a microcontroller is back by itself, with a gap told, and nothing acknowledged is lost",
  async (t) => {
    t.timeout(600_000);
    const { simulator, port } = await simulate(t, "pty", "--counter", "5");
    const { bridge, count, valuesOf } = bridged(t, port);
    await until(() => bridge.isConnected);
    const times: number[] = [];
    for (let round = 1; round <= (ROUNDS || 8); round++) {
      const before = valuesOf("counter").length;
      await until(() => valuesOf("counter").length > before + 2);
      // From 1 byte, its leading END, to past its end: a notification has some 40.
      simulator.write(`reset-after ${1 + ((round * 7) % 45)}\n`);
      const connections = count("connected");
      await until(() => count("lost") === round);
      const lostAt = performance.now();
      await until(() => count("connected") > connections && bridge.isConnected);
      times.push(performance.now() - lostAt);
      t.is(count("gap"), round);
    }
    assertNothingLost(t, simulator, valuesOf("counter"));
    assertTimes(t, times);
  },
);

testWith(
  "firmware-cc",
  "unplugged and plugged in again, a microcontroller is back by itself, with a gap told, and nothing acknowledged is lost",
  async (t) => {
    t.timeout(600_000);
    const { simulator, port } = await simulate(t, "pty", "--counter", "5");
    const { bridge, count, valuesOf } = bridged(t, port);
    await until(() => bridge.isConnected);
    const times: number[] = [];
    for (let round = 1; round <= (ROUNDS || 5); round++) {
      const before = valuesOf("counter").length;
      await until(() => valuesOf("counter").length > before + 2);
      simulator.write("unplug\n");
      await until(() => count("lost") === round);
      await t.throwsAsync(async () => bridge.read("uptime"), { code: "BRIDGE_DISCONNECTED" });
      const pluggedAt = performance.now();
      simulator.write("plug\n");
      await until(() => bridge.isConnected);
      times.push(performance.now() - pluggedAt);
      t.is(count("gap"), round);
    }
    assertNothingLost(t, simulator, valuesOf("counter"));
    assertTimes(t, times);
  },
);

testWith(
  "firmware-cc",
  "garbage, foreign frames and a flood of lines on the wire end neither a connection nor the log",
  async (t) => {
    const { simulator, port } = await simulate(t, "unix", "--counter", "20");
    const { bridge, count, valuesOf, events } = bridged(t, port);
    await until(() => bridge.isConnected);
    for (const noise of ["00ffdbdb", "c0a9", "c0a940011234bb2e776500c0", "c04500c0c0c0db", "c0a96044ffffabcdc0"])
      simulator.write(`send ${noise}\n`);
    for (let index = 0; index < 200; index++)
      simulator.write(`send c00a${Buffer.from(`line ${index}`).toString("hex")}c0\n`);
    const before = valuesOf("counter").length;
    await until(() => valuesOf("counter").length > before + 5);
    t.is((await bridge.read("reset/cause"))[0]?.value, "power-on");
    t.is(count("lost"), 0);
    await until(() => count("diagnostic") > 5);
    t.true(count("diagnostic") < 100);
    t.true(events.some((event) => event.type === "diagnostic" && event.text === "line 0"));
  },
);

testWith(
  "firmware-cc",
  "at the server: properties below a prefix, an endpoint of its own, and what may be set",
  async (t) => {
    const first = await simulate(t, "unix");
    const second = await simulate(t, "pty", "--counter", "100");
    const { server, events } = await paired(
      t,
      `
  - { use: firmware, port: "${first.port}", prefix: boiler, every: 1s, writable: [led] }
  - { use: firmware, port: "${second.port}", every: 1s, as: endpoint, endpoint: mcu-1, credentials: OWN }
`,
    );
    const temperature = await reported(server, "pi-1", "boiler/temperature");
    t.is(temperature.unit, "Cel");
    await reported(server, "pi-1", "boiler/bridge/connected", (value) => value === true);
    await reported(server, "mcu-1", "counter", (value) => Number(value) > 3);
    t.is((await reported(server, "mcu-1", "bridge/gaps")).value, 0);
    t.false((await server.store.properties.latest("pi-1")).some(({ name }) => name.includes("counter")));
    t.is((await server.store.registrations.ofEndpoint("mcu-1", Date.now()))?.subscriber, "mcu");

    t.is((await server.query("pi-1", "boiler/reset/cause"))[0]?.value, "power-on");
    const [before] = await server.query("mcu-1", "counter");
    await new Promise((resolve) => setTimeout(resolve, 250));
    const [after] = await server.query("mcu-1", "counter");
    t.true(Number(after?.value) > Number(before?.value));

    await server.set("pi-1", "boiler/led", true);
    await first.simulator.printed("led 1");
    const led = (await server.query("pi-1", "boiler/led")).find(({ name }) => name === "boiler/led");
    t.is(led?.value, true);
    await t.throwsAsync(server.set("pi-1", "boiler/label", "x"), { code: "DPE_BAD_REQUEST", message: /4\.05/ });
    await t.throwsAsync(server.set("pi-1", "boiler/led", 7), { code: "DPE_BAD_REQUEST", message: /4\.00/ });
    await t.throwsAsync(server.set("mcu-1", "led", true), { code: "DPE_BAD_REQUEST", message: /4\.05/ });
    t.false(second.simulator.output.includes("led 1"));

    first.simulator.write("unplug\n");
    await reported(server, "pi-1", "boiler/bridge/connected", (value) => value === false);
    first.simulator.write("plug\n");
    await reported(server, "pi-1", "boiler/bridge/gaps", (value) => value === 1);
    t.true(events.some((event) => event.type === "gap" && event.port === first.port));
  },
);

test("a sketch that prints JSON lines is a device too", async (t) => {
  const sockets: Socket[] = [];
  const sketch = createServer((socket) => {
    sockets.push(socket);
    const line = '{"temperature":21.5}';
    const sum = checksumOf(new TextEncoder().encode(line)).toString(16);
    socket.write(
      `cut off in the middle of"}\nstarting\n${line}*${sum}\n${line}*00\n{"n":"humidity","u":"%RH","v":40}\n`,
    );
  });
  const where = join(folderOf(t), "sketch");
  await new Promise<void>((resolve) => sketch.listen(where, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    sketch.close();
  });
  const { server, events } = await paired(
    t,
    `  - { use: firmware, port: "unix:${where}", protocol: json-lines, prefix: sketch }`,
  );
  t.is((await reported(server, "pi-1", "sketch/temperature")).value, 21.5);
  const humidity = await reported(server, "pi-1", "sketch/humidity");
  t.deepEqual([humidity.value, humidity.unit], [40, "%RH"]);
  t.true(events.some((event) => event.type === "diagnostic" && event.text === "starting"));
  sockets[0]?.destroy();
  await reported(server, "pi-1", "sketch/bridge/gaps", (value) => value === 1);
});

testWith(
  "firmware-cc",
  "the check of a firmware passes one that conforms, and finds the faults of one that does not",
  async (t) => {
    const { port } = await simulate(t, "unix");
    const good = await openWire(port);
    t.teardown(() => good.close());
    const verdicts = await checkFirmware(good);
    t.deepEqual(
      verdicts.filter(({ result }) => result !== "passed"),
      [],
    );
    t.is(verdicts.length, 22);

    // It takes every frame for a request for links, whatever its FCS says, and never loses hope in a malformed one.
    const links = new TextEncoder().encode('</p/a>;ct=112;obs,</p/b>;ct=112;if="core.a"');
    const where = join(folderOf(t), "bad");
    const firmware = createServer((socket) => {
      let received: number[] = [];
      socket.on("error", () => undefined);
      socket.on("data", (bytes) => {
        for (const byte of bytes) {
          if (byte !== 0xc0) {
            received.push(byte);
            continue;
          }
          const plain = received.flatMap((one, index) => {
            if (one === 0xdb) return [];
            return received[index - 1] === 0xdb ? [one === 0xdc ? 0xc0 : 0xdb] : [one];
          });
          const message = Uint8Array.from(plain).subarray(1, -2);
          const isCoap = received[0] === 0xa9 && message.length >= 4;
          received = [];
          if (!isCoap) continue;
          const tokenLength = Math.min(8, (message[0] ?? 0) & 15);
          const token = message.slice(4, 4 + tokenLength);
          const head = Uint8Array.of(0x60 | tokenLength, 0x45, message[2] ?? 0, message[3] ?? 0, ...token);
          socket.write(encodeCoapFrame(Uint8Array.of(...head, 0xc1, 40, 0xff, ...links)));
        }
      });
    });
    await new Promise<void>((resolve) => firmware.listen(where, resolve));
    const bad = await openWire(`unix:${where}`);
    t.teardown(async () => {
      await bad.close();
      firmware.close();
    });
    const faults = (await checkFirmware(bad)).filter(({ result }) => result === "failed").map(({ rule }) => rule);
    for (const rule of [
      "answers a ping by Reset",
      "drops a frame whose FCS is wrong",
      "answers a path that it does not have with 4.04",
      "refuses a critical option that it does not know with 4.02",
      "never answers a malformed message as if it were one",
      "gives each property as one record of SenML-CBOR",
      "refuses PUT of a property that only reads",
      "refuses to set a property from what is no SenML, or of another format",
      "confirms an observation by the Observe option, and its end by leaving it out",
    ])
      t.true(faults.includes(rule), rule);
  },
);
