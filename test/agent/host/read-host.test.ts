import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, hostname, loadavg, networkInterfaces, release, tmpdir, totalmem, uptime } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import fc from "fast-check";
import type { HostSystem } from "#agent/host/host-system.js";
import { distinct, segment } from "#agent/host/property.js";
import { readHost, type HostOptions, type HostReading } from "#agent/host/read-host.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "../../../../test/fixtures/host");

const system: HostSystem = {
  architecture: () => "aarch64",
  addresses: () => ({
    eth0: [
      { family: "ipv4", address: "192.0.2.7/24" },
      { family: "ipv6", address: "2001:db8::7/64" },
      { family: "ipv6", address: "fe80::7/64" },
    ],
    lo: [{ family: "ipv4", address: "127.0.0.1/8" }],
  }),
  fileSystem: async (path) => {
    const sizeBytes = path.endsWith("firmware") ? 536_870_912 : 31_000_000_000;
    return { sizeBytes, freeBytes: sizeBytes / 2 };
  },
  residentBytes: () => 50_000_000,
};

const of = (name: string): HostOptions => ({ root: join(fixtures, name), system });

/** `name = value unit`, with `!` before what is static. */
function shown(reading: HostReading): string[] {
  return reading.properties.map(
    ({ name, value, unit, kind }) =>
      `${kind === "static" ? "!" : ""}${name} = ${String(value)}${unit === undefined ? "" : ` ${unit}`}`,
  );
}

test("a Raspberry Pi 4 gives all that it has, and nothing that it has not", async (t) => {
  const reading = await readHost(of("raspberry-pi-4"));
  t.deepEqual(reading.failures, []);
  t.deepEqual(shown(reading), [
    "!cpu/count = 4 count",
    "cpu/load1 = 0.52",
    "cpu/load5 = 0.31",
    "cpu/load15 = 0.18",
    "!device/model = Raspberry Pi 4 Model B Rev 1.5",
    "!host/name = pi-kitchen",
    "!os/name = Debian GNU/Linux 12 (bookworm)",
    "!os/id = debian",
    "!os/version = 12",
    "!os/kernel = 6.12.34+rpt-rpi-v8",
    "!os/architecture = aarch64",
    "cpu/temperature = 48.686 Cel",
    "temperature/zone/cpu-thermal = 48.686 Cel",
    "temperature/cpu_thermal/temp1 = 48.199 Cel",
    "!memory/total = 3977666560 B",
    "memory/available = 3471511552 B",
    "!swap/total = 104853504 B",
    "swap/free = 104853504 B",
    "!disk/root/size = 31000000000 B",
    "disk/root/free = 15500000000 B",
    "!disk/boot-firmware/size = 536870912 B",
    "disk/boot-firmware/free = 268435456 B",
    "!disk/media-my_stick/size = 31000000000 B",
    "disk/media-my_stick/free = 15500000000 B",
    "net/eth0/state = up",
    "net/eth0/ipv4 = 192.0.2.7/24",
    "net/eth0/ipv6 = 2001:db8::7/64 fe80::7/64",
    "net/eth0/rx = 918273645 B",
    "net/eth0/tx = 12345678 B",
    "net/eth0/speed = 1000000000 bit/s",
    "net/wlan0/state = up",
    "net/wlan0/rx = 4096 B",
    "net/wlan0/tx = 8192 B",
    "net/wlan0/signal = -82 dBW",
    "uptime = 12068.41 s",
    "agent/memory = 50000000 B",
  ]);
});

test("a laptop gives its batteries, its maker and each of its sensors once", async (t) => {
  const reading = await readHost(of("laptop"));
  t.deepEqual(reading.failures, []);
  const lines = shown(reading);
  for (const line of [
    "!cpu/model = 11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz",
    "!device/model = LENOVO 20XW00AAGE",
    '!os/name = Example "Linux" 9',
    "cpu/temperature = 51 Cel",
    "temperature/zone/acpitz = 27.8 Cel",
    "temperature/zone/acpitz-2 = -0.5 Cel",
    "temperature/nvme/Composite = 35.85 Cel",
    "temperature/coretemp/Package_id_0 = 52 Cel",
    "battery/level = 76 %EL",
    "battery/status = discharging",
    "battery/voltage = 15.834 V",
    "battery-2/level = 25 %EL",
    "battery-2/status = not charging",
    "power/external = false",
    "net/enp0s31f6/state = down",
    "net/br-lan_1/state = up",
  ]) {
    t.true(lines.includes(line), line);
  }
  t.deepEqual(
    lines.filter((line) => /^!?(disk|swap|battery-3|net\/.*speed|os\/version)/.test(line)),
    ["!disk/root/size = 31000000000 B", "disk/root/free = 15500000000 B"],
  );
});

test("a container with almost nothing gives almost nothing, and no zeros in place of it", async (t) => {
  const reading = await readHost({
    root: join(fixtures, "container"),
    system: { ...system, architecture: () => undefined },
  });
  t.deepEqual(reading.failures, []);
  t.deepEqual(shown(reading), [
    "cpu/load1 = 0",
    "cpu/load5 = 0",
    "cpu/load15 = 0",
    "!disk/root/size = 31000000000 B",
    "disk/root/free = 15500000000 B",
    "agent/memory = 50000000 B",
  ]);
  t.deepEqual(
    (await readHost({ root: join(fixtures, "nowhere"), system })).properties.map(({ name }) => name),
    ["os/architecture", "agent/memory"],
  );
});

test("broken files and failing calls lose only themselves", async (t) => {
  const reading = await readHost({
    root: join(fixtures, "garbage"),
    system: {
      ...system,
      addresses: () => {
        throw new Error("no netlink");
      },
      fileSystem: async (path) => {
        if (path.endsWith("broken")) throw Object.assign(new Error("I/O"), { code: "EIO" });
        return system.fileSystem(path);
      },
    },
  });
  t.deepEqual(shown(reading), [
    "!os/name = Real ü",
    "!os/architecture = aarch64",
    "temperature/zone/weird___.._name = 21 Cel",
    "temperature/hwmon0/temp1 = 33 Cel",
    "!disk/ok/size = 31000000000 B",
    "disk/ok/free = 15500000000 B",
    "agent/memory = 50000000 B",
  ]);
  t.deepEqual(reading.failures.map(({ sensor, reason }) => `${sensor}: ${reason}`).toSorted(), [
    "disk /broken: EIO",
    "network addresses: no netlink",
    "sys/class/thermal/thermal_zone3/temp: EISDIR",
  ]);
});

test("a file is read whole whatever its size, up to 256 KiB", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "dpe-host-"));
  t.teardown(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, "proc"));
  const line = (processor: number): string => `cpu${processor} 1 2 3 4 5 6 7 8 0 0`.padEnd(31) + "\n";
  // 32 lines are 1024 bytes, 8192 are 256 KiB.
  for (const [written, read] of [
    [31, 31],
    [32, 32],
    [33, 33],
    [128, 128],
    [1000, 1000],
    [8192, 8192],
    [9000, 8192],
  ] as const) {
    writeFileSync(join(root, "proc/stat"), Array.from({ length: written }, (_, index) => line(index)).join(""));
    const { properties } = await readHost({ root, system });
    t.is(properties.find(({ name }) => name === "cpu/count")?.value, read, `${written} lines`);
  }
});

test("utilisation is the busy share between two readings, from 0 to 1", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "dpe-host-"));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, "proc"));
  const read = async (stat: string, previous?: HostReading): Promise<HostReading> => {
    writeFileSync(join(root, "proc/stat"), `${stat}\n`);
    return readHost({ root, system }, previous);
  };
  const utilisation = (reading: HostReading): unknown =>
    reading.properties.find(({ name }) => name === "cpu/utilisation")?.value;
  const first = await read("cpu  100 0 100 700 100 0 0 0 50 0");
  t.is(utilisation(first), undefined);
  const second = await read("cpu  125 0 100 760 115 0 0 0 75 0", first);
  t.is(utilisation(second), 0.25);
  t.is(utilisation(await read("cpu  125 0 100 760 115 0 0 0 75 0", second)), undefined);
  t.is(utilisation(await read("cpu  125 0 100 900 115 0 0 0 75 0", second)), 0);
  t.is(utilisation(await read("cpu  225 0 100 760 114 0 0 0 75 0", second)), 1);
  t.is(utilisation(await read("cpu  1 0 1 1 1", second)), undefined);
  t.is(utilisation(await read("", second)), undefined);
  t.is(utilisation(await read("cpu  225 0 100 860 115", await read(""))), undefined);
});

test.serial("a sensor that never answers is given up, and the others are there", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "dpe-host-"));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, "proc/sys/kernel"), { recursive: true });
  writeFileSync(join(root, "proc/mounts"), "/dev/a / ext4 rw 0 0\n");
  writeFileSync(join(root, "proc/loadavg"), "1.50 1.00 0.50 1/1 1\n");
  execFileSync("mkfifo", [join(root, "proc/uptime"), join(root, "proc/sys/kernel/hostname")]);
  const never = new Promise<never>(() => {});
  const reading = await readHost({ root, sensorTimeoutMs: 200, system: { ...system, fileSystem: () => never } });
  t.deepEqual(shown(reading), [
    "cpu/load1 = 1.5",
    "cpu/load5 = 1",
    "cpu/load15 = 0.5",
    "!os/architecture = aarch64",
    "agent/memory = 50000000 B",
  ]);
  t.deepEqual(reading.failures, [{ sensor: "disk /", reason: "no answer within 200 ms" }]);
});

test("every name is a SenML name and occurs once, whatever the host calls its parts", (t) => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary", minLength: 1 }), { maxLength: 8 }), (names) => {
      const legal = distinct(names.map(segment));
      return new Set(legal).size === names.length && legal.every((name) => /^[A-Za-z0-9][A-Za-z0-9\-:._]*$/.test(name));
    }),
  );
  t.deepEqual(distinct(["a", "a-2", "a", "a"]), ["a", "a-2", "a-3", "a-4"]);
});

test("every fixture gives SenML names, units of the primary registry and finite values only", async (t) => {
  for (const name of ["raspberry-pi-4", "laptop", "container", "garbage"]) {
    const { properties } = await readHost(of(name));
    t.is(new Set(properties.map((property) => property.name)).size, properties.length);
    for (const { name: path, unit, value } of properties) {
      t.regex(path, /^[A-Za-z0-9][A-Za-z0-9\-:._/]*$/);
      t.true([undefined, "Cel", "B", "V", "s", "bit/s", "dBW", "%EL", "/", "count"].includes(unit), unit);
      t.true(typeof value !== "number" || Number.isFinite(value), path);
      t.true(typeof value !== "string" || !/\p{Cc}/u.test(value), path);
    }
  }
});

const onLinux = process.platform === "linux" ? test : test.skip;

onLinux("on this very machine the readings agree with node:os", async (t) => {
  const first = await readHost();
  const reading = await readHost({}, first);
  const values = new Map(reading.properties.map(({ name, value }) => [name, value]));
  const isNear = (name: string, expected: number, tolerance: number): void => {
    const value = values.get(name);
    t.true(
      typeof value === "number" && Math.abs(value - expected) <= tolerance,
      `${name}: ${String(value)}, ${expected}`,
    );
  };
  t.is(values.get("cpu/count"), cpus().length);
  t.is(values.get("os/kernel"), release());
  t.is(values.get("host/name"), hostname());
  isNear("memory/total", totalmem(), 4096);
  isNear("uptime", uptime(), 5);
  isNear("cpu/load5", loadavg()[1] ?? -1, 0.5);
  isNear("agent/memory", process.memoryUsage.rss(), 64 * 1024 * 1024);
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    const ipv4 = addresses?.filter(({ family }) => family === "IPv4").map(({ cidr }) => cidr) ?? [];
    if (name === "lo" || name.startsWith("veth") || ipv4.length === 0) continue;
    t.is(values.get(`net/${segment(name)}/ipv4`), ipv4.join(" "));
    t.true(values.has(`net/${segment(name)}/rx`));
  }
  t.deepEqual(reading.failures, []);
});
