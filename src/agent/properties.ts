import type { SenmlRecord, SenmlValue } from "#senml/index.js";

/** The properties of one device as they are now, and who wants to know when they change. */
export class Properties {
  readonly #values = new Map<string, SenmlRecord>();
  readonly #listeners = new Set<(changed: readonly SenmlRecord[]) => void>();

  /** Takes a reading; tells the listeners of the properties whose value changed. Returns all records read. */
  update(readings: readonly Reading[], timeSeconds: number): readonly SenmlRecord[] {
    const records = readings.map(({ name, unit, value }): SenmlRecord => ({
      name,
      ...(unit === undefined ? {} : { unit }),
      value,
      timeSeconds,
    }));
    const changed = records.filter((record) => this.#values.get(record.name)?.value !== record.value);
    for (const record of records) this.#values.set(record.name, record);
    if (changed.length > 0) for (const listener of this.#listeners) listener(changed);
    return records;
  }

  /** All, or those whose name is wanted. */
  select(isWanted: (name: string) => boolean = () => true): readonly SenmlRecord[] {
    return [...this.#values.values()].filter((record) => isWanted(record.name));
  }

  /** Calls `onChange` with the wanted properties whenever one of them changes; returns what ends that. */
  watch(isWanted: (name: string) => boolean, onChange: (records: readonly SenmlRecord[]) => void): () => void {
    const listener = (changed: readonly SenmlRecord[]): void => {
      if (changed.some((record) => isWanted(record.name))) onChange(this.select(isWanted));
    };
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** What a source reads. */
export interface Reading {
  readonly name: string;
  readonly unit?: string;
  readonly value: SenmlValue;
}
