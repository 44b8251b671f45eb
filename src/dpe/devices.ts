import type { SenmlRecord } from "#senml/index.js";

/** The latest value of each property of each endpoint. Bounded per endpoint. */
export class Devices {
  readonly #maxPropertiesPerEndpoint: number;
  readonly #byEndpoint = new Map<string, Map<string, SenmlRecord>>();

  /** A report that would exceed the bound is refused whole; default 1000 properties per endpoint. */
  constructor(maxPropertiesPerEndpoint: number = DEFAULT_MAX_PROPERTIES) {
    this.#maxPropertiesPerEndpoint = maxPropertiesPerEndpoint;
  }

  /** Takes a report; an older value never replaces a newer one. Returns false, changing nothing, at the bound. */
  report(endpoint: string, records: readonly SenmlRecord[]): boolean {
    const values = this.#byEndpoint.get(endpoint) ?? new Map<string, SenmlRecord>();
    const names = new Set([...values.keys(), ...records.map(({ name }) => name)]);
    if (names.size > this.#maxPropertiesPerEndpoint) return false;
    for (const record of records) {
      const known = values.get(record.name);
      if ((known?.timeSeconds ?? -Infinity) <= (record.timeSeconds ?? -Infinity)) values.set(record.name, record);
    }
    this.#byEndpoint.set(endpoint, values);
    return true;
  }

  /** By name, sorted. */
  propertiesOf(endpoint: string): readonly SenmlRecord[] {
    return [...(this.#byEndpoint.get(endpoint)?.values() ?? [])].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  forget(endpoint: string): void {
    this.#byEndpoint.delete(endpoint);
  }
}

const DEFAULT_MAX_PROPERTIES = 1000;
