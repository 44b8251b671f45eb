import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { until } from "#testing/until.js";
import { built } from "./build.js";
import { paired, reported } from "./pairing.js";

const isWithoutCompiler = (process.env["DPE_MISSING_PEERS"] ?? "").split(" ").includes("cortex-m3");

testWith(
  isWithoutCompiler ? "cortex-m3" : "qemu-arm",
  "firmware on an emulated Cortex-M3 is discovered by the agent, seen at the server, queried and set over DPE-2, and back after a reset",
  async (t) => {
    const { folder } = await built("firmware");
    const place = mkdtempSync(join(tmpdir(), "qemu-"));
    t.teardown(() => rmSync(place, { recursive: true, force: true }));
    const uart = join(place, "uart");
    const qemu = PeerProcess.start(t, "qemu-system-arm", [
      "-M",
      "lm3s6965evb",
      "-display",
      "none",
      "-monitor",
      "stdio",
      "-chardev",
      `socket,id=uart,path=${uart},server=on,wait=off`,
      "-serial",
      "chardev:uart",
      "-kernel",
      join(folder, "firmware.elf"),
    ]);
    await qemu.printed("(qemu)");
    const { server, events } = await paired(
      t,
      `  - { use: firmware, port: "unix:${uart}", every: 1s, writable: [led, label] }`,
    );
    const temperature = await reported(server, "pi-1", "mcu/temperature");
    t.is(temperature.unit, "Cel");
    // The sensor of the emulated board gives some 34 °C.
    t.true(Number(temperature.value) > 30 && Number(temperature.value) < 40);
    t.true(Number((await reported(server, "pi-1", "mcu/supply/voltage")).value) >= 3);

    const isLedOn = async (): Promise<unknown> =>
      (await server.query("pi-1", "mcu/led")).find(({ name }) => name === "mcu/led")?.value;

    const [uptime] = await server.query("pi-1", "mcu/uptime");
    t.is(uptime?.unit, "s");
    const first = Number(uptime?.value);
    await until(() => events.some(({ type }) => type === "connected"));
    await server.set("pi-1", "mcu/led", true);
    t.is(await isLedOn(), true);
    await server.set("pi-1", "mcu/label", "on the bench");
    await reported(server, "pi-1", "mcu/label", (value) => value === "on the bench");

    qemu.write("system_reset\n");
    await reported(server, "pi-1", "mcu/bridge/gaps", (value) => value === 1);
    await until(() => events.some(({ type }) => type === "gap"));
    t.is(await isLedOn(), false);
    t.true(Number((await server.query("pi-1", "mcu/uptime"))[0]?.value) <= first + 60);
  },
);
