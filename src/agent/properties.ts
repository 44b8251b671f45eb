import type { SenmlRecord } from "#senml/index.js";
import type { Reading } from "./sources/source.js";

/** The properties of one device as they are now, and who wants to know when they change. */
export class Properties {
  readonly #values = new Map<string, SenmlRecord>();
  readonly #static = new Set<string>();
  readonly #listeners = new Set<(changed: readonly SenmlRecord[]) => void>();

  /** Takes a reading; tells the listeners of the properties whose value changed. */
  update(readings: readonly Reading[], timeSeconds: number): void {
    const records = readings.map(({ name, unit, value }): SenmlRecord => ({
      name,
      ...(unit === undefined ? {} : { unit }),
      value,
      timeSeconds,
    }));
    const changed = records.filter((record) => this.#values.get(record.name)?.value !== record.value);
    for (const record of records) this.#values.set(record.name, record);
    for (const { name, kind } of readings) if (kind === "static") this.#static.add(name);
    if (changed.length > 0) for (const listener of this.#listeners) listener(changed);
  }

  /** Those that are fixed while the device runs: what a registration tells. */
  static(): readonly SenmlRecord[] {
    return [...this.#values.values()].filter(({ name }) => this.#static.has(name));
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
