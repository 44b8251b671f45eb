import type { HostFiles } from "./host-files.js";
import { distinct, property, segment, type Property } from "./property.js";

/**
 * The channels of Industrial I/O devices (climate, light, motion sensors, converters): `iio/NAME/temp`, `iio/NAME/voltage0`. The
 * kernel's units and `(raw + offset) × scale` are those of its Documentation/ABI/testing/sysfs-bus-iio.
 */
export async function readIndustrialIo(files: HostFiles): Promise<Property[]> {
  const devices = (await files.list("sys/bus/iio/devices")).filter((name) => /^iio:device\d+$/.test(name));
  const labels = await Promise.all(
    devices.map(async (device) => segment((await files.text(`sys/bus/iio/devices/${device}/name`)) ?? device)),
  );
  const names = distinct(labels);
  const readings = devices.map((device, index) =>
    readDevice(files, `sys/bus/iio/devices/${device}`, names[index] ?? ""),
  );
  return (await Promise.all(readings)).flat();
}

async function readDevice(files: HostFiles, folder: string, name: string): Promise<Property[]> {
  const entries = new Set(await files.list(folder));
  const channels = [...entries].flatMap((entry): Channel[] => {
    const [, channel, type, modifier, form] = /^in_(([a-z]+)\d*(_[a-z]+)?)_(input|raw)$/.exec(entry) ?? [];
    const kind = KINDS[type ?? ""];
    if (channel === undefined || type === undefined || kind === undefined) return [];
    // Of a channel that is there in both forms, the processed one.
    if (form === "raw" && entries.has(`in_${channel}_input`)) return [];
    // A light sensor counts its parts apart; only the whole is in lux.
    if (type === "intensity" || (type === "illuminance" && modifier !== undefined)) return [];
    return [{ channel, type, isRaw: form === "raw", ...kind }];
  });
  const readings = channels.slice(0, MAX_CHANNELS).map(async ({ channel, type, isRaw, factor, unit }) => {
    const value = isRaw
      ? await readRaw(files, folder, channel, type)
      : await files.number(`${folder}/in_${channel}_input`);
    // Rounded, so that 21500 × 0.001 is 21.5.
    const scaled = value === undefined ? undefined : Number((value * factor).toPrecision(12));
    return property("dynamic", `iio/${name}/${segment(channel)}`, scaled, unit);
  });
  return (await Promise.all(readings)).flat();
}

/** Scale and offset are the channel's own, or of all channels of its type. */
async function readRaw(files: HostFiles, folder: string, channel: string, type: string): Promise<number | undefined> {
  const shared = async (what: string): Promise<number | undefined> =>
    (await files.number(`${folder}/in_${channel}_${what}`)) ?? (await files.number(`${folder}/in_${type}_${what}`));
  const [raw, scale, offset = 0] = await Promise.all([
    files.number(`${folder}/in_${channel}_raw`),
    shared("scale"),
    shared("offset"),
  ]);
  return raw === undefined || scale === undefined ? undefined : (raw + offset) * scale;
}

interface Channel extends Kind {
  readonly channel: string;
  readonly type: string;
  readonly isRaw: boolean;
}

interface Kind {
  /** From the kernel's unit to SenML's. */
  readonly factor: number;
  readonly unit: string;
}

const KINDS: Readonly<Record<string, Kind>> = {
  temp: { factor: 0.001, unit: "Cel" },
  humidityrelative: { factor: 0.001, unit: "%RH" },
  pressure: { factor: 1000, unit: "Pa" },
  illuminance: { factor: 1, unit: "lx" },
  voltage: { factor: 0.001, unit: "V" },
  current: { factor: 0.001, unit: "A" },
  power: { factor: 0.001, unit: "W" },
  resistance: { factor: 1, unit: "Ohm" },
  accel: { factor: 1, unit: "m/s2" },
  magn: { factor: 0.0001, unit: "T" },
  proximity: { factor: 1, unit: "m" },
};
const MAX_CHANNELS = 64;
