import type { SenmlRecord } from "#senml/index.js";
import { topicOf } from "./topic.js";

/** The retained message by which Home Assistant makes an entity of a property (its MQTT discovery). */
export function discoveryOf(endpoint: string, record: SenmlRecord, topic: string): DiscoveryMessage {
  const { name, unit, value } = record;
  const isBinary = typeof value === "boolean";
  const kind = isBinary ? "binary_sensor" : "sensor";
  // Two marks: an identifier has one only before a digit, so that no two pairs of names make one.
  const id = `${identifier(endpoint)}__${identifier(name)}`;
  const place = topicOf(topic, endpoint, name);
  const known = unit === undefined ? undefined : UNITS[unit];
  const payload = {
    name: name.replaceAll("/", " "),
    unique_id: `dpe_${id}`,
    state_topic: place,
    value_template: isBinary ? "{{ 'ON' if value_json.value else 'OFF' }}" : "{{ value_json.value }}",
    json_attributes_topic: place,
    availability: [{ topic: `${topic}/status` }, { topic: `${topic}/${endpoint}/status` }],
    availability_mode: "all",
    ...(typeof value === "number" && unit !== undefined && unit !== "/"
      ? { unit_of_measurement: known?.unit ?? unit, state_class: "measurement" }
      : {}),
    ...(known?.device === undefined || typeof value !== "number" ? {} : { device_class: known.device }),
    device: { identifiers: [`dpe_${identifier(endpoint)}`], name: endpoint, manufacturer: "dpe-coap" },
  };
  return { topic: `homeassistant/${kind}/dpe_${id}/config`, payload: JSON.stringify(payload) };
}

export interface DiscoveryMessage {
  readonly topic: string;
  readonly payload: string;
}

/** One to one: what may not stand in an identifier becomes its number, and so does the mark of that. */
function identifier(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9-]/g, (mark) => `_${(mark.codePointAt(0) ?? 0).toString(16)}`);
}

/** SenML's units (RFC 8428 §12.1, RFC 8798) in Home Assistant's words, where they differ or make a class. */
const UNITS: Readonly<Record<string, { readonly unit: string; readonly device?: string }>> = {
  Cel: { unit: "°C", device: "temperature" },
  K: { unit: "K", device: "temperature" },
  "%RH": { unit: "%", device: "humidity" },
  "%EL": { unit: "%", device: "battery" },
  EL: { unit: "s" },
  V: { unit: "V", device: "voltage" },
  mV: { unit: "mV", device: "voltage" },
  A: { unit: "A", device: "current" },
  mA: { unit: "mA", device: "current" },
  W: { unit: "W", device: "power" },
  kW: { unit: "kW", device: "power" },
  J: { unit: "J", device: "energy" },
  Wh: { unit: "Wh", device: "energy" },
  kWh: { unit: "kWh", device: "energy" },
  Pa: { unit: "Pa", device: "pressure" },
  hPa: { unit: "hPa", device: "pressure" },
  lx: { unit: "lx", device: "illuminance" },
  Hz: { unit: "Hz", device: "frequency" },
  m: { unit: "m", device: "distance" },
  s: { unit: "s", device: "duration" },
  B: { unit: "B", device: "data_size" },
  "bit/s": { unit: "bit/s", device: "data_rate" },
  dBm: { unit: "dBm", device: "signal_strength" },
};
