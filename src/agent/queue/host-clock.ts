import { existsSync, readFileSync } from "node:fs";
import { uptime } from "node:os";
import { randomUUID } from "node:crypto";
import type { ClockSource } from "./device-clock.js";

/** The clocks of this Linux machine. */
export function hostClock(): ClockSource {
  return {
    bootId: bootId(),
    uptimeMs: () => uptime() * 1000,
    wallMs: () => Date.now(),
    // systemd-timesyncd makes it once its clock was set, in each boot.
    isSynchronized: () => existsSync("/run/systemd/timesync/synchronized"),
  };
}

/** Where the kernel tells none, each start counts as a boot of its own. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return randomUUID();
  }
}
