import { execFile } from "node:child_process";
import { property, type Property, segment } from "./property.js";

/**
 * The state of each named systemd unit: `unit/ssh.service` is `active`, `failed`, `inactive`…; a unit that systemd does not
 * know is absent. Nothing where there is no systemd.
 */
export async function readUnits(units: readonly string[]): Promise<readonly Property[]> {
  if (units.length === 0) return [];
  const text = await show(units);
  return text.split("\n\n").flatMap((block) => {
    const facts = new Map(block.split("\n").map((line) => line.split("=", 2) as [string, string | undefined]));
    const id = facts.get("Id");
    if (id === undefined || facts.get("LoadState") !== "loaded") return [];
    return property("dynamic", `unit/${segment(id)}`, facts.get("ActiveState"));
  });
}

function show(units: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const words = ["show", "--property=Id,LoadState,ActiveState", "--", ...units];
    execFile("systemctl", words, { timeout: SYSTEMCTL_TIMEOUT_MS }, (_error, stdout) => resolve(stdout));
  });
}

const SYSTEMCTL_TIMEOUT_MS = 2000;
