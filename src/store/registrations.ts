import {
  checkEndpointName,
  DpeError,
  type Registration,
  type RegistrationLimits,
  type RegistrationRequest,
  type RegistrationUpdate,
} from "#dpe/index.js";
import type { SenmlRecord } from "#senml/index.js";
import type { Backend, Change } from "./backend.js";
import { decodeRow, encodeRow, readRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";
import type { Device, DeviceRow } from "./device.js";
import {
  deadlineOf,
  deviceOf,
  devicePlace,
  heardPlace,
  idPlace,
  NOTHING,
  ownedPlace,
  ownerOf,
  registrationOf,
  registrationWithNames,
  withoutNames,
} from "./device-rows.js";
import { type KeptRow, type KnownEndpoint, KnownEndpoints } from "./known-endpoints.js";
import { keepTogether } from "./latest-state.js";
import type { Properties } from "./properties.js";
import { type IncomingReport, type PlannedChange, ReportPlanner } from "./report-planner.js";
import { Retirement } from "./retirement.js";
import { Turns } from "./turns.js";

/**
 * The registrations and reports of a fleet, and what is left of a device when its registration has ended.
 *
 * `device`: key endpoint, a {@link DeviceRow}. `registration`: key id, the endpoint. `heard`: key endpoint, a
 * {@link HeardRow}. `owned`: partition {@link ownerOf} a subscriber, key endpoint. `deadline`: partition `registered` or `ended`, key time and endpoint: what must be looked at when.
 *
 * Invariants:
 * R1. An endpoint name has at most one registration, and an id in `registration` for exactly that.
 * R2. A name belongs to the subscriber that registered it, until that registration ends; when another takes it, all that
 *     was kept of the former one is forgotten first.
 * R3. An expired registration is never given, whether or not it was swept.
 * R4. No more than `maxRegistrations` devices are kept, ended ones included: those make way, the one ended longest first.
 * R5. A device has one deadline: the end of its registration, or when what is left of it is forgotten.
 * R6. A report is taken only while its registration lasts and is the subscriber's, in one change with the time it was heard.
 * R7. A device stands in `owned` under the subscriber that its name belongs to, or belonged to last, and nowhere else.
 */
export class Registrations {
  readonly #backend: Backend;
  readonly #properties: Properties;
  readonly #reports: ReportPlanner;
  readonly #retirement: Retirement;
  readonly #options: RegistrationsOptions;
  readonly #known: KnownEndpoints;
  readonly #turns = new Turns();

  constructor(backend: Backend, properties: Properties, options: RegistrationsOptions) {
    this.#backend = backend;
    this.#properties = properties;
    this.#options = options;
    this.#known = new KnownEndpoints(options.maxKnownRows);
    this.#reports = new ReportPlanner(backend, properties, options.hasOutbox);
    this.#retirement = new Retirement(backend, properties, {
      keepEndedMs: options.keepEndedMs,
      maxRegistrations: options.limits.maxRegistrations,
    });
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

  /** The registrations of one subscriber, in pages in the order of their names: whose name is above `after`. */
  async ofSubscriber(
    subscriber: string,
    { after, limit }: Omit<DevicePage, "prefix">,
    now: number,
  ): Promise<{ readonly registrations: readonly Registration[]; readonly next: string | undefined }> {
    const page = { ...(after === undefined ? {} : { after }), limit };
    const owned = await this.#backend.range("owned", ownerOf(subscriber), page);
    const rows = await this.#backend.get(owned.map(({ key }) => devicePlace(key)));
    const registrations = rows.flatMap((row) => {
      const registration = row === undefined ? undefined : registrationOf(decodeRow(row), now);
      return registration?.subscriber === subscriber ? [registration] : [];
    });
    return { registrations, next: owned.length < limit ? undefined : owned.at(-1)?.key };
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
      if (before === undefined) await this.#retirement.makeRoom(now);
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
      const heard = changesHands || before === undefined ? undefined : await this.#reports.heard(endpoint);
      const taken = await this.#reports.plan(endpoint, report, now, { heard });
      const oldId = before?.registration?.id;
      const change: Change = {
        ...taken.change,
        checks: [{ ...place, value: bytes }, ...(taken.change.checks ?? [])],
        sets: [
          { ...place, value: encodeRow(row) },
          { ...idPlace(registration.id), value: new TextEncoder().encode(endpoint) },
          { ...deadlineOf(row), value: NOTHING },
          ...(subscriber === undefined || before?.subscriber === subscriber
            ? []
            : [{ ...ownedPlace(subscriber, endpoint), value: NOTHING }]),
          ...(taken.change.sets ?? []),
        ],
        deletes: [
          ...(before === undefined ? [] : [deadlineOf(before)]),
          ...(before?.subscriber === undefined || before.subscriber === subscriber
            ? []
            : [ownedPlace(before.subscriber, endpoint)]),
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
      const heard = await this.#reports.heard(registration.endpoint);
      const taken = await this.#reports.plan(registration.endpoint, report, now, { heard });
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
   * Takes readings; fulfilled once they are durable. Those that are known already are kept once (P1). Reports of one
   * registration are taken one after the other, those of others meanwhile.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_TOO_MANY_PROPERTIES; StoreError.
   */
  report(id: string, subscriber: string | undefined, report: IncomingReport, now: number): Promise<Reported> {
    return this.#turns.take(id, () => this.#report(id, subscriber, report, now));
  }

  async #report(id: string, subscriber: string | undefined, report: IncomingReport, now: number): Promise<Reported> {
    let remembered = this.#known.take(id);
    const { before, planned } = await commitUntil(this.#backend, async () => {
      // What was known is tried once: it may be old.
      const known = remembered;
      remembered = undefined;
      if (known !== undefined) {
        try {
          return await this.#planReport(known, subscriber, report, now);
        } catch (error) {
          if (!(error instanceof DpeError)) throw error;
        }
      }
      return this.#planReport(await this.#read(id), subscriber, report, now);
    });
    const { device, registration, latest } = before;
    const kept = keepTogether(planned.heard, planned.latest);
    for (const [name, state] of kept.latest) latest.set(name, state);
    this.#known.put(id, { device, registration, heard: kept.heard, latest });
    return { registration, added: planned.added };
  }

  async #planReport(
    before: KnownEndpoint,
    subscriber: string | undefined,
    report: IncomingReport,
    now: number,
  ): Promise<{ readonly change: Change; readonly result: TakenReport }> {
    const { registration, device, heard } = before;
    const { endpoint } = registration;
    if (registration.subscriber !== subscriber || registration.expiresAt <= now) throw unknownRegistration();
    const planned = await this.#reports.plan(endpoint, report, now, before, [
      { space: "device", partition: "", key: endpoint, value: device },
      { space: "heard", partition: "", key: endpoint, value: heard?.bytes },
    ]);
    return { change: planned.change, result: { before, planned } };
  }

  async #read(id: string): Promise<KnownEndpoint> {
    const device = await this.#rowOf(id);
    const registration = registrationWithNames(device.row);
    if (registration === undefined) throw unknownRegistration();
    return {
      device: device.bytes,
      registration,
      heard: await this.#reports.heard(device.row.endpoint),
      latest: new Map(),
    };
  }

  /** Ends a registration. @throws DpeError DPE_UNKNOWN_REGISTRATION; StoreError. */
  deregister(id: string, subscriber: string | undefined, now: number): Promise<Registration> {
    return commitUntil(this.#backend, async () => {
      const { registration, row, bytes } = await this.#owned(id, subscriber, now);
      return { change: this.#retirement.planEnd(row, bytes, "deregistered", now), result: registration };
    });
  }

  /** Forgets a device, its registration and all its readings; false when it is not known. */
  forget(endpoint: string): Promise<boolean> {
    return this.#retirement.forget(endpoint);
  }

  /** Ends the registrations that have expired at `now` and gives them; forgets devices whose time has come. */
  sweep(now: number): Promise<readonly Registration[]> {
    return this.#retirement.sweep(now);
  }

  /**
   * The registration `id` of that subscriber.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, also when it is another subscriber's: an id tells nothing to others.
   */
  async #owned(id: string, subscriber: string | undefined, now: number): Promise<Owned> {
    this.#known.take(id);
    const { row, bytes } = await this.#rowOf(id);
    const registration = registrationOf(row, now);
    if (registration === undefined || registration.subscriber !== subscriber) throw unknownRegistration();
    return { registration, row, bytes };
  }

  async #rowOf(id: string): Promise<KeptRow<DeviceRow>> {
    const [endpoint] = await this.#backend.get([idPlace(id)]);
    const [bytes] =
      endpoint === undefined ? [] : await this.#backend.get([devicePlace(new TextDecoder().decode(endpoint))]);
    const device = readRow<DeviceRow>(bytes);
    if (device?.row.registration?.id !== id) throw unknownRegistration();
    return device;
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
  /** Rows that are kept in memory of endpoints that report, of about 800 bytes each. */
  readonly maxKnownRows: number;
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

interface Owned extends KeptRow<DeviceRow> {
  readonly registration: Registration;
}

/** A report and what was kept before it. */
interface TakenReport {
  readonly before: KnownEndpoint;
  readonly planned: PlannedChange;
}

function unknownRegistration(): DpeError {
  return new DpeError("DPE_UNKNOWN_REGISTRATION", "there is no such registration; register anew");
}
