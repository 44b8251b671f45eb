import { decimal, type HostFiles } from "./host-files.js";
import { property, type Property } from "./property.js";

/** Processor time since boot, in clock ticks, all processors together. */
export interface CpuTimes {
  readonly busyTicks: number;
  readonly totalTicks: number;
}

/** Processors, their model, load averages and, against earlier times, their utilisation from 0 to 1. */
export async function readCpu(
  files: HostFiles,
  previous: CpuTimes | undefined,
): Promise<{ readonly properties: Property[]; readonly times: CpuTimes | undefined }> {
  const [stat, load, info] = await Promise.all([
    files.text("proc/stat"),
    files.text("proc/loadavg"),
    files.text("proc/cpuinfo"),
  ]);
  const lines = stat?.split("\n") ?? [];
  const count = lines.filter((line) => /^cpu\d+ /.test(line)).length;
  const times = decodeTimes(lines.find((line) => line.startsWith("cpu ")));
  const [load1, load5, load15] = load?.split(" ").map(decimal) ?? [];
  return {
    times,
    properties: [
      ...property("static", "cpu/count", count > 0 ? count : undefined, "count"),
      ...property("static", "cpu/model", /^model name\s*:\s*(.+)$/m.exec(info ?? "")?.[1]?.trim()),
      ...property("dynamic", "cpu/load1", load1),
      ...property("dynamic", "cpu/load5", load5),
      ...property("dynamic", "cpu/load15", load15),
      // RFC 8428 §12.1: the unit "/" is a ratio; its "%" is the same ratio and no percentage, so it is avoided.
      ...property("dynamic", "cpu/utilisation", utilisation(times, previous), "/"),
    ],
  };
}

/** proc(5): user nice system idle iowait irq softirq steal guest guest_nice; guest time is part of user time already. */
function decodeTimes(line: string | undefined): CpuTimes | undefined {
  const ticks = line?.split(/\s+/).slice(1, 9).map(decimal) ?? [];
  if (ticks.length < 4 || ticks.some((tick) => tick === undefined)) return undefined;
  const totalTicks = ticks.reduce<number>((sum, tick) => sum + (tick ?? 0), 0);
  return { totalTicks, busyTicks: totalTicks - (ticks[3] ?? 0) - (ticks[4] ?? 0) };
}

function utilisation(times: CpuTimes | undefined, previous: CpuTimes | undefined): number | undefined {
  if (times === undefined || previous === undefined) return undefined;
  const total = times.totalTicks - previous.totalTicks;
  if (total <= 0) return undefined;
  // The kernel's idle and iowait counts may step back a little (proc(5)).
  const ratio = Math.min(1, Math.max(0, (times.busyTicks - previous.busyTicks) / total));
  return Math.round(ratio * 10_000) / 10_000;
}
