import type { Source } from "./dpe-agent.js";
import { type HostReading, readHost } from "./host/read-host.js";

/** The source `host`: the properties of this Linux machine. */
export function hostSource(everyMs: number): Source {
  let previous: HostReading | undefined;
  return {
    everyMs,
    read: async () => {
      previous = await readHost({}, previous);
      return previous.properties;
    },
  };
}
