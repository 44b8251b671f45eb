import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { readHost } from "#agent/host/read-host.js";
import test, { type ExecutionContext } from "ava";

/** What a host with these files and nothing else gives, as `name = value unit`. */
async function readingOf(t: ExecutionContext, files: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const root = mkdtempSync(join(tmpdir(), "dpe-sensors-"));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  const { properties } = await readHost({ root });
  return properties
    .filter(({ name }) => /^(w1|iio|gpio)\//.test(name))
    .map(({ name, value, unit }) => `${name} = ${String(value)}${unit === undefined ? "" : ` ${unit}`}`);
}

test("1-wire sensors give their temperature, by either file of the kernel, and nothing where they did not measure", async (t) => {
  const bus = "sys/bus/w1/devices";
  t.deepEqual(
    await readingOf(t, {
      [`${bus}/28-0000075f2b1c/temperature`]: "21437",
      [`${bus}/28-0000075f2b1d/w1_slave`]:
        "57 01 4b 46 7f ff 0c 10 1c : crc=1c YES\n57 01 4b 46 7f ff 0c 10 1c t=-1500",
      [`${bus}/28-0000075f2b1e/w1_slave`]: "57 01 : crc=1c NO\n57 01 t=21437",
      [`${bus}/28-0000075f2b1f/temperature`]: "85000",
      [`${bus}/28-0000075f2b20/temperature`]: "-127000",
      [`${bus}/w1_bus_master1/temperature`]: "20000",
    }),
    ["w1/28-0000075f2b1c/temperature = 21.437 Cel", "w1/28-0000075f2b1d/temperature = -1.5 Cel"],
  );
});

test("Industrial I/O channels are processed values, or raw ones with their scale and offset, in SenML's units", async (t) => {
  const [climate, converter, light] = [0, 1, 2].map((number) => `sys/bus/iio/devices/iio:device${number}`);
  t.deepEqual(
    await readingOf(t, {
      [`${climate}/name`]: "bme280",
      [`${climate}/in_temp_input`]: "21530",
      [`${climate}/in_temp_raw`]: "1",
      [`${climate}/in_humidityrelative_input`]: "45125",
      [`${climate}/in_pressure_input`]: "101.325",
      [`${converter}/name`]: "mcp3424",
      [`${converter}/in_voltage0_raw`]: "1024",
      [`${converter}/in_voltage1_raw`]: "10",
      [`${converter}/in_voltage1_scale`]: "2",
      [`${converter}/in_voltage_scale`]: "0.5",
      [`${converter}/in_voltage_offset`]: "-24",
      [`${converter}/in_current0_raw`]: "7",
      [`${light}/name`]: "bme280",
      [`${light}/in_illuminance_input`]: "312",
      [`${light}/in_intensity_both_raw`]: "99",
      [`${light}/in_accel_x_raw`]: "100",
      [`${light}/in_accel_scale`]: "0.01",
    }),
    [
      "iio/bme280/humidityrelative = 45.125 %RH",
      "iio/bme280/pressure = 101325 Pa",
      "iio/bme280/temp = 21.53 Cel",
      "iio/mcp3424/voltage0 = 0.5 V",
      "iio/mcp3424/voltage1 = -0.028 V",
      "iio/bme280-2/accel_x = 1 m/s2",
      "iio/bme280-2/illuminance = 312 lx",
    ],
  );
});

test("exported GPIO lines are active or not", async (t) => {
  const lines = "sys/class/gpio";
  t.deepEqual(
    await readingOf(t, {
      [`${lines}/gpio17/value`]: "1",
      [`${lines}/gpio4/value`]: "0",
      [`${lines}/gpio5/value`]: "what",
      [`${lines}/gpiochip0/base`]: "0",
    }),
    ["gpio/4 = false", "gpio/17 = true"],
  );
});
