import { type HostReading, readHost } from "../host/read-host.js";
import { readUnits } from "../host/systemd-units.js";
import type { Source } from "./source.js";

/** The source `host`: the properties of this Linux machine, and the states of the systemd units that are named. */
export function hostSource(everyMs: number, units: readonly string[] = []): Source {
  let previous: HostReading | undefined;
  return {
    name: "host",
    everyMs,
    read: async () => {
      previous = await readHost({}, previous);
      return [...previous.properties, ...(await readUnits(units))];
    },
  };
}
