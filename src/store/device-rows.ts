import type { Registration } from "#dpe/index.js";
import type { Place } from "./backend.js";
import { decodeRow } from "./codec.js";
import type { Device, DeviceRow, HeardRow } from "./device.js";
import { timeKey } from "./time-key.js";

export function deviceOf(row: DeviceRow, heard: Uint8Array | undefined, now: number): Device {
  const { endpoint, subscriber, firstRegisteredAt, security, ended } = row;
  const heardRow = heard === undefined ? undefined : decodeRow<HeardRow>(heard);
  const expired = row.registration !== undefined && row.registration.expiresAt <= now ? row.registration : undefined;
  return {
    endpoint,
    subscriber,
    firstRegisteredAt,
    registration: registrationOf(row, now),
    ended: expired === undefined ? ended : { at: expired.expiresAt, cause: "expired" },
    security,
    heard: heardRow,
    overdue: missedBetween(heardRow, now),
  };
}

export function registrationOf(row: DeviceRow, now: number): Registration | undefined {
  const registration = registrationWithNames(row);
  return registration !== undefined && registration.expiresAt > now ? registration : undefined;
}

export function registrationWithNames({ endpoint, subscriber, registration }: DeviceRow): Registration | undefined {
  return registration === undefined ? undefined : { ...registration, endpoint, subscriber };
}

export function withoutNames({
  id,
  dpe2,
  isQueueMode,
  registeredAt,
  lifetimeMs,
  expiresAt,
}: Registration): NonNullable<DeviceRow["registration"]> {
  return { id, dpe2, isQueueMode, registeredAt, lifetimeMs, expiresAt };
}

/** Reports that should have come by `now` by the interval last declared, with half of one to spare. */
export function missedBetween(heard: HeardRow | undefined, now: number): number {
  if (heard?.intervalSeconds === undefined || !isInterval(heard.intervalSeconds)) return 0;
  return Math.max(0, Math.floor((now - heard.at) / (heard.intervalSeconds * 1000) - 0.5));
}

/** Whether what a device declares is an interval: one below a millisecond would count its reports into infinity. */
export function isInterval(seconds: number): boolean {
  return seconds >= LEAST_INTERVAL_SECONDS;
}

export function deadlineOf({ endpoint, registration, ended }: DeviceRow): Place {
  const at = registration?.expiresAt ?? ended?.forgetAt ?? 0;
  return {
    space: "deadline",
    partition: registration === undefined ? "ended" : "registered",
    key: timeKey(at) + endpoint,
  };
}

export function devicePlace(endpoint: string): Place {
  return { space: "device", partition: "", key: endpoint };
}

export function heardPlace(endpoint: string): Place {
  return { space: "heard", partition: "", key: endpoint };
}

export function idPlace(id: string): Place {
  return { space: "registration", partition: "", key: id };
}

/** Where a device stands under its subscriber. */
export function ownedPlace(subscriber: string, endpoint: string): Place {
  return { space: "owned", partition: ownerOf(subscriber), key: endpoint };
}

/** A subscriber's name as a partition of `owned`: its UTF-8 in hexadecimal. */
export function ownerOf(subscriber: string): string {
  return Buffer.from(subscriber).toString("hex");
}

export const NOTHING: Uint8Array = new Uint8Array(0);
const LEAST_INTERVAL_SECONDS = 0.001;
