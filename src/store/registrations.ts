import {
  checkEndpointName,
  DpeError,
  type Registration,
  type RegistrationLimits,
  type RegistrationRequest,
  type RegistrationUpdate,
} from "#dpe/index.js";
import type { SenmlRecord } from "#senml/index.js";
import type { Backend, Change, Place } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";
import type { Device, DeviceRow, DeviceSecurity, EndCause, HeardRow } from "./device.js";
import { planOutbox } from "./outbox.js";
import type { Properties } from "./properties.js";
import { TIME_KEY_LENGTH, timeKey } from "./time-key.js";

/**
 * The registrations and reports of a fleet, and what is left of a device when its registration has ended.
 *
 * `device`: key endpoint, a {@link DeviceRow}. `registration`: key id, the endpoint. `heard`: key endpoint, a
 * {@link HeardRow}. `deadline`: partition `registered` or `ended`, key time and endpoint: what must be looked at when.
 *
 * Invariants:
 * R1. An endpoint name has at most one registration, and an id in `registration` for exactly that.
 * R2. A name belongs to the subscriber that registered it, until that registration ends; when another takes it, all that
 *     was kept of the former one is forgotten first.
 * R3. An expired registration is never given, whether or not it was swept.
 * R4. No more than `maxRegistrations` devices are kept, ended ones included: those make way, the one ended longest first.
 * R5. A device has one deadline: the end of its registration, or when what is left of it is forgotten.
 * R6. A report is taken only while its registration lasts and is the subscriber's, in one change with the time it was heard.
 */
export class Registrations {
  readonly #backend: Backend;
  readonly #properties: Properties;
  readonly #options: RegistrationsOptions;
  #lastOutboxKey = 0;

  constructor(backend: Backend, properties: Properties, options: RegistrationsOptions) {
    this.#backend = backend;
    this.#properties = properties;
    this.#options = options;
  }

  /** Devices that are kept, ended ones included. */
  count(): Promise<number> {
    return this.#backend.count("device");
  }

  /** A page of devices in the order of their names, ended ones included. */
  async page({ after, prefix, limit }: DevicePage, now: number): Promise<readonly Device[]> {
    const from = prefix !== undefined && (after === undefined || after < prefix) ? { from: prefix } : {};
    const rows = await this.#backend.range("device", "", {
      ...("from" in from || after === undefined ? from : { after }),
      ...(prefix === undefined ? {} : { before: `${prefix}~` }),
      limit,
    });
    const heard = await this.#backend.get(rows.map(({ key }) => heardPlace(key)));
    return rows.map(({ value }, index) => deviceOf(decodeRow(value), heard[index], now));
  }

  async device(endpoint: string, now: number): Promise<Device | undefined> {
    const [row, heard] = await this.#backend.get([devicePlace(endpoint), heardPlace(endpoint)]);
    return row === undefined ? undefined : deviceOf(decodeRow(row), heard, now);
  }

  async ofEndpoint(endpoint: string, now: number): Promise<Registration | undefined> {
    const [row] = await this.#backend.get([devicePlace(endpoint)]);
    return row === undefined ? undefined : registrationOf(decodeRow(row), now);
  }

  /**
   * The registration `id` of that subscriber.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, also when it is another subscriber's: an id tells nothing to others.
   */
  async owned(id: string, subscriber: string | undefined, now: number): Promise<Registration> {
    return (await this.#owned(id, subscriber, now)).registration;
  }

  /**
   * Registers an endpoint, in place of its own earlier registration, with its first report.
   *
   * @throws DpeError DPE_NAME_TAKEN when the name is another subscriber's, DPE_LIFETIME_OUT_OF_RANGE,
   * DPE_BAD_ENDPOINT_NAME, DPE_TOO_MANY_REGISTRATIONS, DPE_TOO_MANY_PROPERTIES; StoreError.
   */
  async register(request: RegistrationRequest, report: IncomingReport, now: number): Promise<Registered> {
    const { endpoint, subscriber } = request;
    checkEndpointName(endpoint);
    const lifetimeMs = this.#lifetimeMs(request.lifetimeSeconds);
    return commitUntil(this.#backend, async () => {
      const place = devicePlace(endpoint);
      const [bytes] = await this.#backend.get([place]);
      const before = bytes === undefined ? undefined : decodeRow<DeviceRow>(bytes);
      const replaced = before === undefined ? undefined : registrationOf(before, now);
      if (replaced !== undefined && replaced.subscriber !== subscriber)
        throw new DpeError("DPE_NAME_TAKEN", `endpoint ${endpoint} is registered by another subscriber`);
      if (before === undefined) await this.#makeRoom(now);
      const changesHands = before !== undefined && before.subscriber !== subscriber;
      const registration: Registration = {
        id: this.#options.newId(),
        endpoint,
        subscriber,
        dpe2: request.dpe2,
        isQueueMode: request.isQueueMode,
        registeredAt: now,
        lifetimeMs,
        expiresAt: now + lifetimeMs,
      };
      const row: DeviceRow = {
        endpoint,
        ...(subscriber === undefined ? {} : { subscriber }),
        firstRegisteredAt: changesHands ? now : (before?.firstRegisteredAt ?? now),
        registration: withoutNames(registration),
        ...(report.security === undefined ? {} : { security: report.security }),
      };
      if (changesHands) {
        const { clears } = await this.#properties.planForget(endpoint);
        const checks = [{ ...place, value: bytes }];
        await this.#backend.commit({ clears: [...clears, { space: "queue", partition: endpoint }], checks });
      }
      const taken = await this.#planReport(
        endpoint,
        report,
        now,
        changesHands ? undefined : await this.#heard(endpoint),
      );
      const oldId = before?.registration?.id;
      const change: Change = {
        ...taken.change,
        checks: [{ ...place, value: bytes }, ...(taken.change.checks ?? [])],
        sets: [
          { ...place, value: encodeRow(row) },
          { ...idPlace(registration.id), value: new TextEncoder().encode(endpoint) },
          { ...deadlineOf(row), value: NOTHING },
          ...(taken.change.sets ?? []),
        ],
        deletes: [
          ...(before === undefined ? [] : [deadlineOf(before)]),
          ...(oldId === undefined ? [] : [idPlace(oldId)]),
          ...(taken.change.deletes ?? []),
        ],
      };
      return { change, result: { registration, replaced, added: taken.added } };
    });
  }

  /**
   * Extends a registration, with a new lifetime or DPE-2 address where given.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_LIFETIME_OUT_OF_RANGE; StoreError.
   */
  async refresh(
    id: string,
    subscriber: string | undefined,
    update: RegistrationUpdate,
    report: IncomingReport,
    now: number,
  ): Promise<Registration> {
    const given = update.lifetimeSeconds === undefined ? undefined : this.#lifetimeMs(update.lifetimeSeconds);
    return commitUntil(this.#backend, async () => {
      const { registration, row, bytes } = await this.#owned(id, subscriber, now);
      const lifetimeMs = given ?? registration.lifetimeMs;
      const refreshed = {
        ...registration,
        dpe2: update.dpe2 ?? registration.dpe2,
        lifetimeMs,
        expiresAt: now + lifetimeMs,
      };
      const next: DeviceRow = {
        ...row,
        registration: withoutNames(refreshed),
        ...(report.security === undefined ? {} : { security: report.security }),
      };
      const taken = await this.#planReport(
        registration.endpoint,
        report,
        now,
        await this.#heard(registration.endpoint),
      );
      const place = devicePlace(registration.endpoint);
      const change: Change = {
        checks: [{ ...place, value: bytes }, ...(taken.change.checks ?? [])],
        deletes: [deadlineOf(row), ...(taken.change.deletes ?? [])],
        sets: [
          { ...place, value: encodeRow(next) },
          { ...deadlineOf(next), value: NOTHING },
          ...(taken.change.sets ?? []),
        ],
      };
      return { change, result: refreshed };
    });
  }

  /**
   * Takes readings; fulfilled once they are durable. Those that are known already are kept once (P1).
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_TOO_MANY_PROPERTIES; StoreError.
   */
  report(id: string, subscriber: string | undefined, report: IncomingReport, now: number): Promise<Reported> {
    return commitUntil(this.#backend, async () => {
      const { registration, bytes } = await this.#owned(id, subscriber, now);
      const { endpoint } = registration;
      const taken = await this.#planReport(endpoint, report, now, await this.#heard(endpoint));
      const checks = [{ ...devicePlace(endpoint), value: bytes }, ...(taken.change.checks ?? [])];
      return { change: { ...taken.change, checks }, result: { registration, added: taken.added } };
    });
  }

  /** Ends a registration. @throws DpeError DPE_UNKNOWN_REGISTRATION; StoreError. */
  deregister(id: string, subscriber: string | undefined, now: number): Promise<Registration> {
    return commitUntil(this.#backend, async () => {
      const { registration, row, bytes } = await this.#owned(id, subscriber, now);
      return { change: this.#planEnd(row, bytes, "deregistered", now), result: registration };
    });
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
    const isEnded = await this.#backend.commit(this.#planEnd(row, bytes, "expired", now));
    return isEnded ? registrationWithNames(row) : undefined;
  }

  #planEnd(row: DeviceRow, bytes: Uint8Array, cause: EndCause, now: number): Change {
    const { registration, ...rest } = row;
    const ended: DeviceRow = { ...rest, ended: { at: now, cause, forgetAt: now + this.#options.keepEndedMs } };
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
    const { endpoint, registration } = row;
    const place = devicePlace(endpoint);
    const { clears } = await this.#properties.planForget(endpoint);
    return {
      clears: [...clears, { space: "queue", partition: endpoint }],
      checks: [{ ...place, value: bytes }],
      deletes: [
        place,
        heardPlace(endpoint),
        deadlineOf(row),
        ...(registration === undefined ? [] : [idPlace(registration.id)]),
      ],
    };
  }

  async #planReport(
    endpoint: string,
    { records, server }: IncomingReport,
    now: number,
    heardBefore: HeardRow | undefined,
  ): Promise<{ readonly change: Change; readonly added: readonly SenmlRecord[] }> {
    const { checks, sets, deletes, added } = await this.#properties.plan(endpoint, records, now);
    const intervals = records.flatMap(({ updateTimeSeconds }) => updateTimeSeconds ?? []);
    const intervalSeconds = intervals.length === 0 ? heardBefore?.intervalSeconds : Math.min(...intervals);
    const heard: HeardRow = {
      at: now,
      server,
      missed: (heardBefore?.missed ?? 0) + missedBetween(heardBefore, now),
      ...(intervalSeconds === undefined ? {} : { intervalSeconds }),
    };
    const outbox =
      this.#options.hasOutbox && added.length > 0 ? [planOutbox(endpoint, added, this.#outboxKey(now, server))] : [];
    return {
      change: { checks, deletes, sets: [...sets, { ...heardPlace(endpoint), value: encodeRow(heard) }, ...outbox] },
      added,
    };
  }

  /** Rises with every report of this process, also when the clock does not. */
  #outboxKey(now: number, server: string): string {
    this.#lastOutboxKey = Math.max(now, this.#lastOutboxKey + 1 / 1024);
    return `${timeKey(this.#lastOutboxKey)}.${server}`;
  }

  async #heard(endpoint: string): Promise<HeardRow | undefined> {
    const [bytes] = await this.#backend.get([heardPlace(endpoint)]);
    return bytes === undefined ? undefined : decodeRow<HeardRow>(bytes);
  }

  async #owned(id: string, subscriber: string | undefined, now: number): Promise<Owned> {
    const [endpoint] = await this.#backend.get([idPlace(id)]);
    const [bytes] =
      endpoint === undefined ? [] : await this.#backend.get([devicePlace(new TextDecoder().decode(endpoint))]);
    const row = bytes === undefined ? undefined : decodeRow<DeviceRow>(bytes);
    const registration = row === undefined ? undefined : registrationOf(row, now);
    if (bytes === undefined || row === undefined || registration?.id !== id || registration.subscriber !== subscriber)
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", "there is no such registration; register anew");
    return { registration, row, bytes };
  }

  async #makeRoom(now: number): Promise<void> {
    const { maxRegistrations } = this.#options.limits;
    if ((await this.count()) < maxRegistrations) return;
    await this.sweep(now);
    if ((await this.count()) < maxRegistrations) return;
    const [oldest] = await this.#backend.range("deadline", "ended", { limit: 1 });
    if (oldest !== undefined && (await this.forget(oldest.key.slice(TIME_KEY_LENGTH)))) return;
    throw new DpeError("DPE_TOO_MANY_REGISTRATIONS", `${maxRegistrations} endpoints are registered already`);
  }

  #lifetimeMs(seconds: number): number {
    const { minLifetimeSeconds, maxLifetimeSeconds } = this.#options.limits;
    if (seconds >= minLifetimeSeconds && seconds <= maxLifetimeSeconds) return seconds * 1000;
    throw new DpeError(
      "DPE_LIFETIME_OUT_OF_RANGE",
      `a lifetime is ${minLifetimeSeconds} to ${maxLifetimeSeconds} seconds, not ${seconds}`,
    );
  }
}

export interface RegistrationsOptions {
  readonly limits: RegistrationLimits;
  /** Gives an unguessable id on each call; it becomes a Uri-Path segment. */
  readonly newId: () => string;
  /** How long a device is kept after its registration has ended, ms. */
  readonly keepEndedMs: number;
  /** Whether new readings are also put into the outbox. */
  readonly hasOutbox: boolean;
}

/** Readings as they came, and by which server and with which security. */
export interface IncomingReport {
  readonly records: readonly SenmlRecord[];
  /** The id of the server that heard the endpoint. */
  readonly server: string;
  readonly security?: DeviceSecurity;
}

export interface Registered extends Reported {
  readonly replaced: Registration | undefined;
}

export interface Reported {
  readonly registration: Registration;
  /** The readings that were not known before. */
  readonly added: readonly SenmlRecord[];
}

export interface DevicePage {
  /** Only names above this one. */
  readonly after?: string;
  /** Only names that begin so. */
  readonly prefix?: string;
  readonly limit: number;
}

interface Owned {
  readonly registration: Registration;
  readonly row: DeviceRow;
  readonly bytes: Uint8Array;
}

function deviceOf(row: DeviceRow, heard: Uint8Array | undefined, now: number): Device {
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

function registrationOf(row: DeviceRow, now: number): Registration | undefined {
  const registration = registrationWithNames(row);
  return registration !== undefined && registration.expiresAt > now ? registration : undefined;
}

function registrationWithNames({ endpoint, subscriber, registration }: DeviceRow): Registration | undefined {
  return registration === undefined ? undefined : { ...registration, endpoint, subscriber };
}

function withoutNames({
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
function missedBetween(heard: HeardRow | undefined, now: number): number {
  if (heard?.intervalSeconds === undefined || heard.intervalSeconds <= 0) return 0;
  return Math.max(0, Math.floor((now - heard.at) / (heard.intervalSeconds * 1000) - 0.5));
}

export function deadlineOf({ endpoint, registration, ended }: DeviceRow): Place {
  const at = registration?.expiresAt ?? ended?.forgetAt ?? 0;
  return {
    space: "deadline",
    partition: registration === undefined ? "ended" : "registered",
    key: timeKey(at) + endpoint,
  };
}

function devicePlace(endpoint: string): Place {
  return { space: "device", partition: "", key: endpoint };
}

function heardPlace(endpoint: string): Place {
  return { space: "heard", partition: "", key: endpoint };
}

function idPlace(id: string): Place {
  return { space: "registration", partition: "", key: id };
}

const NOTHING = new Uint8Array(0);
const SWEEP_PAGE = 500;
