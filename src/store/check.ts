import type { Backend } from "./backend.js";
import { decodeRow } from "./codec.js";
import type { DeviceRow } from "./device.js";
import { deadlineOf, ownedPlace } from "./device-rows.js";
import { StoreError } from "./errors.js";
import { firstAhead, historyOf, type LatestRow } from "./properties.js";
import { schemaOf } from "./schema.js";
import { TIME_KEY_LENGTH, timeKey, timeOfKey } from "./time-key.js";

/** Looks for what breaks an invariant of a store that nobody writes to meanwhile. Changes nothing. */
export async function* checkStore(backend: Backend): AsyncIterable<StoreFault> {
  if ((await schemaOf(backend)) === undefined) yield fault("schema", "the store has no schema version");
  yield* checkDevices(backend);
  yield* checkProperties(backend);
}

export interface StoreFault {
  /** The invariant that is broken, by its number, or `schema`, or `bytes`. */
  readonly invariant: string;
  readonly message: string;
}

async function* checkDevices(backend: Backend): AsyncIterable<StoreFault> {
  for await (const { key, value } of backend.scan("device")) {
    const row = decoded<DeviceRow>(value);
    if (row === undefined) {
      yield fault("bytes", `the device ${key} is not readable`);
      continue;
    }
    if ((row.registration === undefined) === (row.ended === undefined))
      yield fault("R5", `${key} is registered and ended, or neither`);
    const id = row.registration?.id;
    const [deadline, endpoint, owned] = await backend.get([
      deadlineOf(row),
      { space: "registration", partition: "", key: id ?? "" },
      ownedPlace(row.subscriber ?? "", key),
    ]);
    if (row.subscriber !== undefined && owned === undefined)
      yield fault("R7", `${key} does not stand under its subscriber ${row.subscriber}`);
    if (deadline === undefined) yield fault("R5", `${key} has no deadline: it would never expire`);
    if (id !== undefined && (endpoint === undefined || new TextDecoder().decode(endpoint) !== key))
      yield fault("R1", `the registration ${id} of ${key} is not found by its id`);
  }
  for await (const { partition, key } of backend.scan("owned")) {
    const [bytes] = await backend.get([{ space: "device", partition: "", key }]);
    const subscriber = bytes === undefined ? undefined : decoded<DeviceRow>(bytes)?.subscriber;
    if (ownedPlace(subscriber ?? "", key).partition !== partition)
      yield fault("R7", `${key} stands under a subscriber that it does not belong to`);
  }
  for await (const { key, value } of backend.scan("registration")) {
    const endpoint = new TextDecoder().decode(value);
    const [bytes] = await backend.get([{ space: "device", partition: "", key: endpoint }]);
    if (bytes === undefined || decoded<DeviceRow>(bytes)?.registration?.id !== key)
      yield fault("R1", `the id ${key} leads to ${endpoint}, which has another registration`);
  }
  for (const partition of ["registered", "ended"]) {
    for (let after: string | undefined; ;) {
      const page = await backend.range("deadline", partition, {
        ...(after === undefined ? {} : { after }),
        limit: PAGE,
      });
      for (const { key } of page) {
        const endpoint = key.slice(TIME_KEY_LENGTH);
        const [bytes] = await backend.get([{ space: "device", partition: "", key: endpoint }]);
        const row = bytes === undefined ? undefined : decoded<DeviceRow>(bytes);
        if (row === undefined || deadlineOf(row).key !== key) yield fault("R5", `${endpoint} has a deadline too many`);
      }
      after = page.at(-1)?.key;
      if (page.length < PAGE) break;
    }
  }
}

async function* checkProperties(backend: Backend): AsyncIterable<StoreFault> {
  const aheadSeconds = firstAhead(Date.now());
  for await (const { partition, key, value } of backend.scan("latest")) {
    const row = decoded<LatestRow>(value);
    if (row === undefined) {
      yield fault("bytes", `the latest value of ${partition} ${key} is not readable`);
      continue;
    }
    const history = await backend.range("history", historyOf(partition, key), { limit: Infinity });
    if (history.length !== row.count)
      yield fault("P4", `${partition} ${key} has ${history.length} readings, and counts ${row.count}`);
    const newest = history.findLast(({ key: time }) => timeOfKey(time) < aheadSeconds)?.key;
    if (newest !== undefined && newest > timeKey(row.record.timeSeconds ?? 0))
      yield fault("P2", `${partition} ${key} has a newer reading than its latest`);
  }
}

function fault(invariant: string, message: string): StoreFault {
  return { invariant, message };
}

function decoded<Row>(bytes: Uint8Array): Row | undefined {
  try {
    return decodeRow<Row>(bytes);
  } catch (error) {
    if (error instanceof StoreError) return undefined;
    throw error;
  }
}

const PAGE = 1000;
