import type { Reading } from "#agent/index.js";
import { SeededRandom } from "../seeded-random.js";

/** A kind of device: what it measures, and how often it is heard. */
export interface DeviceProfile {
  readonly name: ProfileName;
  /** Ms between reports, unless the command says otherwise. */
  readonly everyMs: number;
  /** A sleeper leaves the network between its reports. */
  readonly isSleeper: boolean;
  /** The readings of one device, which move as such devices' do: `secondsSinceStart` in, properties out. */
  readings(seed: number): (secondsSinceStart: number) => readonly Reading[];
}

export const PROFILE_NAMES = ["pi", "battery-sensor", "gateway"] as const;
export type ProfileName = (typeof PROFILE_NAMES)[number];

export const DEVICE_PROFILES: Readonly<Record<ProfileName, DeviceProfile>> = {
  pi: { name: "pi", everyMs: 10_000, isSleeper: false, readings: piReadings },
  "battery-sensor": { name: "battery-sensor", everyMs: 60_000, isSleeper: true, readings: batterySensorReadings },
  gateway: { name: "gateway", everyMs: 5000, isSleeper: false, readings: gatewayReadings },
};

/** A small computer on mains: its load comes and goes, and its temperature follows. */
function piReadings(seed: number): (seconds: number) => readonly Reading[] {
  const random = new SeededRandom(seed);
  let load = 0.2;
  let celsius = 45;
  let received = 0;
  return (seconds) => {
    load = Math.max(0.01, load * 0.9 + Math.max(0, random.around(0.03, 0.2)));
    celsius += (40 + 20 * Math.min(1, load) - celsius) * 0.1;
    received += random.below(50_000);
    return [
      { name: "model", value: "Raspberry Pi 4 Model B (simulated)", kind: "static" },
      { name: "cpu/load1", value: rounded(load, 2) },
      { name: "cpu/temperature", unit: "Cel", value: rounded(celsius, 1) },
      { name: "memory/available", unit: "B", value: 3_000_000_000 + random.below(200_000_000) },
      { name: "net/eth0/rx", unit: "B", value: received },
      { name: "uptime", unit: "s", value: Math.round(seconds) },
    ];
  };
}

/** A sensor outdoors: temperature and humidity follow the day, its battery drains, its network comes and goes. */
function batterySensorReadings(seed: number): (seconds: number) => readonly Reading[] {
  const random = new SeededRandom(seed);
  const birthDay = random.next();
  let percent = random.around(80, 20);
  return (seconds) => {
    percent = Math.max(0, percent - 0.0002 * random.next());
    const day = Math.sin(2 * Math.PI * (seconds / 86_400 + birthDay));
    return [
      { name: "model", value: "battery sensor (simulated)", kind: "static" },
      { name: "temperature", unit: "Cel", value: rounded(random.around(12 + 6 * day, 0.2), 2) },
      { name: "humidity", unit: "%RH", value: rounded(random.around(65 - 15 * day, 1), 1) },
      { name: "battery/level", unit: "%EL", value: rounded(percent, 3) },
      { name: "net/signal", unit: "dBW", value: -Math.round(random.around(110, 8)) },
    ];
  };
}

/** A gateway with many sensors behind it. */
function gatewayReadings(seed: number): (seconds: number) => readonly Reading[] {
  const random = new SeededRandom(seed);
  const sensors = Array.from({ length: SENSORS_BEHIND_GATEWAY }, (_, index) =>
    batterySensorReadings(seed * 31 + index),
  );
  return (seconds) => [
    { name: "model", value: "gateway (simulated)", kind: "static" },
    { name: "cpu/load1", value: rounded(Math.abs(random.around(0.5, 0.4)), 2) },
    { name: "net/type", value: random.chance(0.02) ? "cellular" : "ethernet" },
    ...sensors.flatMap((read, index) =>
      read(seconds)
        .filter(({ kind }) => kind !== "static")
        .map((reading) => ({ ...reading, name: `sensor/${index + 1}/${reading.name}` })),
    ),
  ];
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

const SENSORS_BEHIND_GATEWAY = 8;
