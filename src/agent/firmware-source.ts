import { FirmwareBridge, type FirmwareEvent, type FirmwareReading } from "#bridge/index.js";
import type { SenmlValue } from "#senml/index.js";
import type { Reading, Source } from "./sources/source.js";
import { type FirmwareConfig, prefixOf } from "./firmware-config.js";

/**
 * The source `firmware`: what a microcontroller notified since it was last read, in the order of arrival, with whether it
 * is connected and how many times something may be missing.
 */
export function firmwareSource(
  config: FirmwareConfig,
  onEvent: (event: FirmwareSourceEvent) => void = () => undefined,
): Source {
  const prefix = prefixOf(config);
  let waiting: Reading[] = [];
  let gaps = 0;
  let wake: () => void = () => undefined;
  const bridge = new FirmwareBridge(
    {
      port: config.port,
      baud: config.baud,
      protocol: config.protocol,
      checksum: config.checksum,
      everyMs: config.every,
    },
    (event) => {
      if (event.type === "readings") {
        waiting.push(...event.readings.map((reading) => prefixed(prefix, reading)));
        const excess = waiting.length - MAX_WAITING;
        if (excess > 0) {
          waiting = waiting.slice(excess);
          onEvent({ type: "readings-dropped", port: config.port, readings: excess });
        }
        wake();
        return;
      }
      if (event.type === "gap") gaps++;
      onEvent({ ...event, port: config.port });
      if (event.type === "gap" || event.type === "connected" || event.type === "lost") wake();
    },
  );
  return {
    name: `firmware ${config.port}`,
    everyMs: READ_INTERVAL_MS,
    onWake: (listener) => (wake = listener),
    read: () => {
      const readings = waiting;
      waiting = [];
      const state = [
        { name: `${prefix}bridge/connected`, value: bridge.isConnected },
        { name: `${prefix}bridge/gaps`, value: gaps },
      ];
      return Promise.resolve([...readings, ...state]);
    },
    refresh: async (name) => {
      if (config.protocol === "json-lines" || !name.startsWith(prefix)) return [];
      const inner = name.slice(prefix.length);
      if (!bridge.properties.some((property) => property.name === inner)) return [];
      return (await bridge.read(inner)).map((reading) => prefixed(prefix, reading));
    },
    write: async (name, value) => {
      const inner = name.slice(prefix.length);
      if (!name.startsWith(prefix) || !config.writable.includes(inner)) return false;
      await bridge.write(inner, value satisfies SenmlValue);
      return true;
    },
    close: () => bridge.close(),
  };
}

/** What a microcontroller's port tells of; readings are the source's to give. */
export type FirmwareSourceEvent =
  | (Exclude<FirmwareEvent, { type: "readings" }> & { readonly port: string })
  | { readonly type: "readings-dropped"; readonly port: string; readonly readings: number };

function prefixed(prefix: string, { name, unit, value }: FirmwareReading): Reading {
  return { name: `${prefix}${name}`, ...(unit === undefined ? {} : { unit }), value };
}

const READ_INTERVAL_MS = 1000;
/** Between two readings of the source; a firmware that floods us loses its oldest. */
const MAX_WAITING = 10_000;
