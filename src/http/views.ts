import { isoTime, type SenmlRecord } from "#senml/index.js";
import type { AuditEntry, Device, QueuedRequest, SubscriberRow } from "#store/index.js";

/** A device as the API gives it; times are ISO 8601. */
export function deviceView(device: Device): object {
  const { registration, ended, heard, security } = device;
  return {
    endpoint: device.endpoint,
    ...(device.subscriber === undefined ? {} : { subscriber: device.subscriber }),
    state: stateOf(device),
    firstRegisteredAt: isoTime(device.firstRegisteredAt),
    ...(registration === undefined
      ? {}
      : {
          registeredAt: isoTime(registration.registeredAt),
          expiresAt: isoTime(registration.expiresAt),
          queueMode: registration.isQueueMode,
        }),
    ...(ended === undefined ? {} : { endedAt: isoTime(ended.at) }),
    ...(heard === undefined
      ? {}
      : {
          lastHeardAt: isoTime(heard.at),
          server: heard.server,
          missed: heard.missed,
          ...(heard.intervalSeconds === undefined ? {} : { intervalSeconds: heard.intervalSeconds }),
        }),
    overdue: registration === undefined ? 0 : device.overdue,
    ...(security === undefined ? {} : { security }),
  };
}

export type DeviceState = "registered" | "overdue" | "expired" | "deregistered";

export function stateOf({ registration, ended, overdue }: Device): DeviceState {
  if (registration === undefined) return ended?.cause ?? "expired";
  return overdue > 0 ? "overdue" : "registered";
}

/** A property, or one value of its history; bytes are base64 under `data`. */
export function propertyView({ name, unit, value, sum, timeSeconds, updateTimeSeconds }: SenmlRecord): object {
  return {
    name,
    ...(unit === undefined ? {} : { unit }),
    ...(value instanceof Uint8Array
      ? { data: Buffer.from(value).toString("base64") }
      : value === undefined
        ? {}
        : { value }),
    ...(sum === undefined ? {} : { sum }),
    ...(timeSeconds === undefined ? {} : { time: isoTime(timeSeconds * 1000) }),
    ...(updateTimeSeconds === undefined ? {} : { intervalSeconds: updateTimeSeconds }),
  };
}

export function requestView({ id, names, createdAt, expiresAt, state, records, error }: QueuedRequest): object {
  return {
    id,
    names,
    createdAt: isoTime(createdAt),
    expiresAt: isoTime(expiresAt),
    state,
    ...(records === undefined ? {} : { properties: records.map((record) => propertyView(record)) }),
    ...(error === undefined ? {} : { message: error }),
  };
}

export function auditView({ key, at, event }: AuditEntry): object {
  return { ...event, key, at: isoTime(at) };
}

/** Never a credential, only of which kinds there are. */
export function subscriberView(row: SubscriberRow): object {
  const credentials = [
    ...(row.digest === undefined ? [] : ["digest"]),
    ...(row.psk === undefined ? [] : ["psk"]),
    ...((row.certificates ?? []).length === 0 ? [] : ["certificate"]),
    ...((row.keys ?? []).length === 0 ? [] : ["key"]),
  ];
  return {
    name: row.name,
    credentials,
    ...(row.certificates === undefined ? {} : { certificates: row.certificates }),
    ...(row.keys === undefined ? {} : { keys: row.keys }),
    ...(row.endpoints === undefined ? {} : { endpoints: row.endpoints }),
    ...(row.interfaces === undefined ? {} : { interfaces: row.interfaces }),
    isBanned: row.isBanned === true,
    isConfigured: row.isConfigured === true,
  };
}
