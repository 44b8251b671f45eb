import type { HostFiles } from "./host-files.js";
import { distinct, property, type Property } from "./property.js";

/**
 * The batteries that power the host (`battery/level` in percent of energy, `battery/status`, `battery/voltage`; a
 * second one is `battery-2`) and whether external power is there. Batteries of mice and the like are left out.
 */
export async function readBattery(files: HostFiles): Promise<Property[]> {
  const supplies = await Promise.all(
    (await files.list(FOLDER)).map(async (name) => {
      const [type, scope, present] = await Promise.all(
        ["type", "scope", "present"].map((file) => files.text(`${FOLDER}/${name}/${file}`)),
      );
      return { name, type, isOfHost: scope !== "Device" && present !== "0" };
    }),
  );
  const batteries = supplies.filter(({ type, isOfHost }) => type === "Battery" && isOfHost);
  const external = supplies.filter(({ type, isOfHost }) => /^(Mains|USB)/.test(type ?? "") && isOfHost);
  const names = distinct(batteries.map(() => "battery"));
  const readings = batteries.map(async ({ name }, index) => {
    const [level, status, microvolts] = await Promise.all([
      readLevel(files, name),
      files.text(`${FOLDER}/${name}/status`),
      files.number(`${FOLDER}/${name}/voltage_now`),
    ]);
    const isVoltage = microvolts !== undefined && microvolts > 0;
    return [
      // RFC 8428 §12.1: "%EL" is the remaining battery energy level in percent.
      ...property("dynamic", `${names[index]}/level`, level, "%EL"),
      ...property("dynamic", `${names[index]}/status`, STATUS.test(status ?? "") ? status?.toLowerCase() : undefined),
      ...property("dynamic", `${names[index]}/voltage`, isVoltage ? microvolts / 1e6 : undefined, "V"),
    ];
  });
  const online = (await Promise.all(external.map(({ name }) => files.number(`${FOLDER}/${name}/online`)))).filter(
    (value) => value !== undefined,
  );
  return [
    ...(await Promise.all(readings)).flat(),
    ...property("dynamic", "power/external", online.length > 0 ? online.some((value) => value > 0) : undefined),
  ];
}

async function readLevel(files: HostFiles, name: string): Promise<number | undefined> {
  const capacity = await files.number(`${FOLDER}/${name}/capacity`);
  // Worn batteries report a little over 100.
  if (capacity !== undefined) return capacity >= 0 && capacity <= 110 ? Math.min(100, capacity) : undefined;
  for (const quantity of ["energy", "charge"]) {
    const now = await files.number(`${FOLDER}/${name}/${quantity}_now`);
    const full = await files.number(`${FOLDER}/${name}/${quantity}_full`);
    if (now !== undefined && full !== undefined && now >= 0 && full > 0) {
      return Math.min(100, Math.round((now / full) * 100));
    }
  }
  return undefined;
}

const FOLDER = "sys/class/power_supply";
/** sysfs-class-power */
const STATUS = /^(Charging|Discharging|Not charging|Full)$/;
