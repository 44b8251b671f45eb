import type { Backend, PlacedEntry } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import type { DeviceRow } from "./device.js";
import { NOTHING, ownedPlace } from "./device-rows.js";
import { StoreError } from "./errors.js";

/**
 * Brings a store to this version's layout. Each step leads from one version to the next; the version is written when its
 * step is done, so that a step which was interrupted runs again: a step must bear that.
 *
 * @throws StoreError STORE_NEWER_SCHEMA: the store is left as it is.
 */
export async function upgradeSchema(
  backend: Backend,
  steps: readonly SchemaStep[] = SCHEMA_STEPS,
): Promise<{ readonly from: number | undefined; readonly to: number }> {
  const to = steps.length + FIRST_SCHEMA;
  const from = await schemaOf(backend);
  if (from !== undefined && from > to) {
    throw new StoreError(
      "STORE_NEWER_SCHEMA",
      `the store has schema ${from}, this version knows ${to}: it was written by a newer version`,
    );
  }
  const write = async (version: number): Promise<void> => {
    await backend.commit({ sets: [{ ...PLACE, value: encodeRow({ version }) }] });
  };
  if (from === undefined) await write(to);
  for (let version = from ?? to; version < to; version++) {
    await steps[version - FIRST_SCHEMA]?.(backend);
    await write(version + 1);
  }
  return { from, to };
}

/** Undefined for a store that is new. */
export async function schemaOf(backend: Backend): Promise<number | undefined> {
  const [bytes] = await backend.get([PLACE]);
  return bytes === undefined ? undefined : decodeRow<{ readonly version: number }>(bytes).version;
}

export type SchemaStep = (backend: Backend) => Promise<void>;

/** Step n leads from schema n + 1 to n + 2. Schema 1 is the first that was published. */
export const SCHEMA_STEPS: readonly SchemaStep[] = [indexDevicesBySubscriber];

/** To schema 2: `owned` (R7). */
export async function indexDevicesBySubscriber(backend: Backend): Promise<void> {
  let sets: PlacedEntry[] = [];
  for await (const { value } of backend.scan("device")) {
    const { subscriber, endpoint } = decodeRow<DeviceRow>(value);
    if (subscriber === undefined) continue;
    sets.push({ ...ownedPlace(subscriber, endpoint), value: NOTHING });
    if (sets.length < BATCH) continue;
    await backend.commit({ sets });
    sets = [];
  }
  if (sets.length > 0) await backend.commit({ sets });
}

const BATCH = 500;

const FIRST_SCHEMA = 1;
const PLACE = { space: "meta", partition: "", key: "schema" } as const;
