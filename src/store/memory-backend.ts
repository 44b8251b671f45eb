import type { Backend, Change, Entry, Message, Place, PlacedEntry, Range, Space } from "./backend.js";
import { sameBytes } from "./bytes.js";
import { LocalChannels } from "./local-channels.js";
import { SortedPartition } from "./sorted-partition.js";

/** Keeps everything in this process, and loses it with it: the default where no store is configured. */
export class MemoryBackend implements Backend {
  readonly kind = "memory";
  readonly #spaces = new Map<Space, Map<string, SortedPartition>>();
  readonly #channels = new LocalChannels();

  get(places: readonly Place[]): Promise<readonly (Uint8Array | undefined)[]> {
    return Promise.resolve(places.map((place) => this.#value(place)));
  }

  range(space: Space, partition: string, range: Range): Promise<readonly Entry[]> {
    return Promise.resolve(this.#spaces.get(space)?.get(partition)?.range(range) ?? []);
  }

  count(space: Space): Promise<number> {
    return Promise.resolve(this.#spaces.get(space)?.get("")?.size ?? 0);
  }

  // oxlint-disable-next-line require-await -- other backends wait here
  async *scan(space: Space): AsyncIterable<PlacedEntry> {
    for (const [partition, entries] of this.#spaces.get(space) ?? [])
      for (const { key, value } of entries.range({ limit: Infinity })) yield { space, partition, key, value };
  }

  commit({ checks = [], sets = [], deletes = [], clears = [] }: Change): Promise<boolean> {
    if (!checks.every((check) => sameBytes(this.#value(check), check.value))) return Promise.resolve(false);
    for (const { space, partition } of clears) this.#spaces.get(space)?.delete(partition);
    for (const { space, partition, key } of deletes) this.#delete(space, partition, key);
    for (const { space, partition, key, value } of sets)
      this.#partition(space, partition).set(key, Uint8Array.from(value));
    return Promise.resolve(true);
  }

  publish(channel: string, message: Message): void {
    this.#channels.publish(channel, message);
  }

  subscribe(channel: string, listener: (message: Uint8Array) => void): Promise<() => void> {
    return Promise.resolve(this.#channels.subscribe(channel, listener));
  }

  close(): Promise<void> {
    this.#spaces.clear();
    return Promise.resolve();
  }

  #value({ space, partition, key }: Place): Uint8Array | undefined {
    return this.#spaces.get(space)?.get(partition)?.get(key);
  }

  #partition(space: Space, partition: string): SortedPartition {
    let partitions = this.#spaces.get(space);
    if (partitions === undefined) this.#spaces.set(space, (partitions = new Map<string, SortedPartition>()));
    let entries = partitions.get(partition);
    if (entries === undefined) partitions.set(partition, (entries = new SortedPartition()));
    return entries;
  }

  #delete(space: Space, partition: string, key: string): void {
    const entries = this.#spaces.get(space)?.get(partition);
    entries?.delete(key);
    if (entries?.size === 0) this.#spaces.get(space)?.delete(partition);
  }
}
