import type { HostFiles } from "./host-files.js";
import { property, type Property } from "./property.js";

/** Main memory and swap, in bytes. `available` is what programs could still get (proc(5), MemAvailable). */
export async function readMemory(files: HostFiles): Promise<Property[]> {
  const text = (await files.text("proc/meminfo")) ?? "";
  const bytes = (field: string): number | undefined => {
    const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text);
    return match === null ? undefined : Number(match[1]) * 1024;
  };
  const swapBytes = bytes("SwapTotal");
  const hasSwap = swapBytes !== undefined && swapBytes > 0;
  return [
    ...property("static", "memory/total", bytes("MemTotal"), "B"),
    ...property("dynamic", "memory/available", bytes("MemAvailable"), "B"),
    ...(hasSwap ? property("static", "swap/total", swapBytes, "B") : []),
    ...(hasSwap ? property("dynamic", "swap/free", bytes("SwapFree"), "B") : []),
  ];
}
