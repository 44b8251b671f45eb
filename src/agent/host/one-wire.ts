import { decimal, type HostFiles } from "./host-files.js";
import { distinct, property, segment, type Property } from "./property.js";

/**
 * The temperature sensors of 1-wire buses (DS18B20 and its kin), `w1/28-0000075f2b1c/temperature` in degrees Celsius. Each is
 * measured as it is read, which takes 0.75 s; those of one bus wait for each other.
 */
export async function readOneWire(files: HostFiles): Promise<Property[]> {
  const devices = (await files.list("sys/bus/w1/devices")).filter((name) => /^[0-9a-f]{2}-[0-9a-f]{12}$/.test(name));
  const names = distinct(devices.map(segment));
  const readings = devices.map(async (device, index) => {
    const folder = `sys/bus/w1/devices/${device}`;
    const thousandths = (await files.number(`${folder}/temperature`)) ?? (await readSlave(files, folder));
    // 85 °C is what a sensor says that has not measured since it was powered.
    const isMeasured =
      thousandths !== undefined && thousandths >= LEAST && thousandths <= MOST && thousandths !== POWER_ON;
    return property("dynamic", `w1/${names[index]}/temperature`, isMeasured ? thousandths / 1000 : undefined, "Cel");
  });
  return (await Promise.all(readings)).flat();
}

/** Of kernels before 5.10: `… crc=1c YES` and on the next line `… t=21437`. */
async function readSlave(files: HostFiles, folder: string): Promise<number | undefined> {
  const text = (await files.text(`${folder}/w1_slave`)) ?? "";
  return decimal(/crc=[0-9a-f]{2} YES\s*\n.*\bt=(-?\d+)/.exec(text)?.[1]);
}

const LEAST = -55_000;
const MOST = 125_000;
const POWER_ON = 85_000;
