import { DpeError, type Registration } from "#dpe/index.js";
import type { Backend, Change } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";
import type { DeviceRow, EndCause } from "./device.js";
import {
  deadlineOf,
  devicePlace,
  heardPlace,
  idPlace,
  NOTHING,
  ownedPlace,
  registrationWithNames,
} from "./device-rows.js";
import type { Properties } from "./properties.js";
import { TIME_KEY_LENGTH, timeKey } from "./time-key.js";

/** How registrations end and devices are forgotten: asked for, by their deadline (R5), or to make room (R4). */
export class Retirement {
  readonly #backend: Backend;
  readonly #properties: Properties;
  readonly #keepEndedMs: number;
  readonly #maxRegistrations: number;

  constructor(backend: Backend, properties: Properties, { keepEndedMs, maxRegistrations }: RetirementOptions) {
    this.#backend = backend;
    this.#properties = properties;
    this.#keepEndedMs = keepEndedMs;
    this.#maxRegistrations = maxRegistrations;
  }

  /** Before one more device is kept (R4). @throws DpeError DPE_TOO_MANY_REGISTRATIONS. */
  async makeRoom(now: number): Promise<void> {
    const isFull = async (): Promise<boolean> => (await this.#backend.count("device")) >= this.#maxRegistrations;
    if (!(await isFull())) return;
    await this.sweep(now);
    if (!(await isFull())) return;
    const [oldest] = await this.#backend.range("deadline", "ended", { limit: 1 });
    if (oldest !== undefined && (await this.forget(oldest.key.slice(TIME_KEY_LENGTH)))) return;
    throw new DpeError("DPE_TOO_MANY_REGISTRATIONS", `${this.#maxRegistrations} endpoints are registered already`);
  }

  /** Forgets a device, its registration and all its readings; false when it is not known. */
  forget(endpoint: string): Promise<boolean> {
    return commitUntil(this.#backend, async () => {
      const [bytes] = await this.#backend.get([devicePlace(endpoint)]);
      if (bytes === undefined) return { change: undefined, result: false };
      return { change: await this.#planForget(decodeRow(bytes), bytes), result: true };
    });
  }

  /** Ends the registrations that have expired at `now` and gives them; forgets devices whose time has come. */
  async sweep(now: number): Promise<readonly Registration[]> {
    const expired: Registration[] = [];
    for (const partition of ["registered", "ended"] as const) {
      for (;;) {
        const due = await this.#backend.range("deadline", partition, { before: timeKey(now), limit: SWEEP_PAGE });
        for (const { key } of due) {
          const ended = await this.#meetDeadline(partition, key, now);
          if (ended !== undefined) expired.push(ended);
        }
        if (due.length < SWEEP_PAGE) break;
      }
    }
    return expired;
  }

  async #meetDeadline(partition: "registered" | "ended", key: string, now: number): Promise<Registration | undefined> {
    const endpoint = key.slice(TIME_KEY_LENGTH);
    const [bytes] = await this.#backend.get([devicePlace(endpoint)]);
    if (bytes === undefined) {
      await this.#backend.commit({ deletes: [{ space: "deadline", partition, key }] });
      return undefined;
    }
    const row = decodeRow<DeviceRow>(bytes);
    if (deadlineOf(row).key !== key) return undefined;
    if (row.registration === undefined) {
      await this.#backend.commit(await this.#planForget(row, bytes));
      return undefined;
    }
    const isEnded = await this.#backend.commit(this.planEnd(row, bytes, "expired", now));
    return isEnded ? registrationWithNames(row) : undefined;
  }

  /** What ends a registration. */
  planEnd(row: DeviceRow, bytes: Uint8Array, cause: EndCause, now: number): Change {
    const { registration, ...rest } = row;
    const ended: DeviceRow = { ...rest, ended: { at: now, cause, forgetAt: now + this.#keepEndedMs } };
    const place = devicePlace(row.endpoint);
    return {
      checks: [{ ...place, value: bytes }],
      deletes: [deadlineOf(row), ...(registration === undefined ? [] : [idPlace(registration.id)])],
      sets: [
        { ...place, value: encodeRow(ended) },
        { ...deadlineOf(ended), value: NOTHING },
      ],
    };
  }

  async #planForget(row: DeviceRow, bytes: Uint8Array): Promise<Change> {
    const { endpoint, registration, subscriber } = row;
    const place = devicePlace(endpoint);
    const { clears } = await this.#properties.planForget(endpoint);
    return {
      clears: [...clears, { space: "queue", partition: endpoint }],
      checks: [{ ...place, value: bytes }],
      deletes: [
        place,
        heardPlace(endpoint),
        deadlineOf(row),
        ...(subscriber === undefined ? [] : [ownedPlace(subscriber, endpoint)]),
        ...(registration === undefined ? [] : [idPlace(registration.id)]),
      ],
    };
  }
}

export interface RetirementOptions {
  /** How long a device is kept after its registration has ended, ms. */
  readonly keepEndedMs: number;
  /** Devices kept, ended ones included. */
  readonly maxRegistrations: number;
}

const SWEEP_PAGE = 500;
