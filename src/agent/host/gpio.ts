import type { HostFiles } from "./host-files.js";
import { property, type Property } from "./property.js";

/**
 * The GPIO lines that were exported to sysfs, `gpio/17`: whether the line is active, as its `active_low` says. Lines that a
 * program holds by the character device are that program's to tell (sources `exec` and `file`).
 */
export async function readGpio(files: HostFiles): Promise<Property[]> {
  const lines = (await files.list("sys/class/gpio")).filter((name) => /^gpio\d+$/.test(name)).slice(0, MAX_LINES);
  const readings = lines.map(async (line) => {
    const value = await files.text(`sys/class/gpio/${line}/value`);
    const isActive = value === "1" ? true : value === "0" ? false : undefined;
    return property("dynamic", `gpio/${line.slice("gpio".length)}`, isActive);
  });
  return (await Promise.all(readings)).flat();
}

const MAX_LINES = 64;
