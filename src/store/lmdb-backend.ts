import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { type Database, open, type RootDatabase } from "lmdb";
import {
  type Backend,
  type Change,
  type Entry,
  type Place,
  type PlacedEntry,
  type Range,
  type Space,
  SPACES,
} from "./backend.js";
import { sameBytes } from "./bytes.js";
import { StoreError } from "./errors.js";
import { LocalChannels } from "./local-channels.js";
import { OwnerFile } from "./owner-file.js";

/**
 * LMDB in a folder of its own, for one server. The folder has mode 0700 and its files 0600.
 *
 * A key is `partition NUL key`, one database a space. Changes that arrive while one is being written wait, and are then
 * written together, with one fsync for all of them (group commit). Checks are looked at here, between two writes: there is
 * no other writer, which the owner file sees to.
 */
export class LmdbBackend implements Backend {
  readonly kind = "lmdb";
  readonly #environment: RootDatabase<Uint8Array, Uint8Array>;
  readonly #databases: ReadonlyMap<Space, Database<Uint8Array, Uint8Array>>;
  readonly #owner: OwnerFile | undefined;
  readonly #channels = new LocalChannels();
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;

  /**
   * @param isReader - only reads, beside a server that may be running; it commits nothing.
   * @throws StoreError STORE_IN_USE, STORE_UNAVAILABLE.
   */
  constructor(folder: string, { isReader = false, hasFsync = true }: LmdbOptions = {}) {
    try {
      if (!isReader) {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        // LMDB would make its files readable to the group.
        for (const name of ["data.mdb", "lock.mdb"]) closeSync(openSync(join(folder, name), "a", 0o600));
      }
      this.#owner = isReader ? undefined : OwnerFile.take(join(folder, "owner"));
      this.#environment = open({
        path: folder,
        maxDbs: SPACES.length,
        keyEncoding: "binary",
        encoding: "binary",
        // A write is then acknowledged after the fsync, not before.
        overlappingSync: false,
        noSync: !hasFsync,
        readOnly: isReader,
        noSubdir: false,
      });
      this.#databases = new Map(
        SPACES.map((name) => [
          name,
          this.#environment.openDB<Uint8Array, Uint8Array>({ name, keyEncoding: "binary", encoding: "binary" }),
        ]),
      );
    } catch (error) {
      if (error instanceof StoreError) throw error;
      throw new StoreError("STORE_UNAVAILABLE", `the store ${folder} cannot be opened: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  get(places: readonly Place[]): Promise<readonly (Uint8Array | undefined)[]> {
    return Promise.resolve(places.map((place) => this.#value(place)));
  }

  range(space: Space, partition: string, range: Range): Promise<readonly Entry[]> {
    const prefix = `${partition}\0`;
    const least = Buffer.from(`${prefix}${range.after === undefined ? (range.from ?? "") : `${range.after}\0`}`);
    const bound = Buffer.from(range.before === undefined ? `${partition}\u0001` : `${prefix}${range.before}`);
    const limit = Math.min(range.limit, 2 ** 31);
    if (Buffer.compare(least, bound) >= 0) return Promise.resolve([]);
    const bounds = range.isReverse === true ? backwards(least, bound) : { start: least, end: bound };
    const entries = [...this.#database(space).getRange({ ...bounds, limit })];
    return Promise.resolve(
      entries.map(({ key, value }) => ({ key: textOf(key).slice(prefix.length), value: copy(value) })),
    );
  }

  count(space: Space): Promise<number> {
    const stats: { readonly entryCount?: number } = this.#database(space).getStats();
    return Promise.resolve(stats.entryCount ?? 0);
  }

  async *scan(space: Space): AsyncIterable<PlacedEntry> {
    let start: Uint8Array = Uint8Array.of(0);
    for (;;) {
      const page = [...this.#database(space).getRange({ start, limit: SCAN_PAGE })];
      for (const { key, value } of page) {
        const text = textOf(key);
        const end = text.lastIndexOf("\0");
        yield { space, partition: text.slice(0, end), key: text.slice(end + 1), value: copy(value) };
      }
      const last = page.at(-1);
      if (last === undefined || page.length < SCAN_PAGE) return;
      start = Buffer.concat([last.key, Uint8Array.of(0)]);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  commit(change: Change): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ change, resolve, reject });
      this.#writing ??= this.#write();
    });
  }

  publish(channel: string, message: Uint8Array): void {
    this.#channels.publish(channel, message);
  }

  subscribe(channel: string, listener: (message: Uint8Array) => void): Promise<() => void> {
    return Promise.resolve(this.#channels.subscribe(channel, listener));
  }

  async close(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    await this.#environment.close();
    this.#owner?.release();
  }

  /** Writes what waits, batch after batch, until nothing does. */
  async #write(): Promise<void> {
    // Whatever else this turn of the event loop brings is part of the first batch.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, MAX_BATCH);
      const changed = new Map<string, Uint8Array | undefined>();
      const outcomes = batch.map(({ change }) => this.#holds(change, changed) && this.#note(change, changed));
      try {
        if (changed.size > 0) await this.#environment.batch(() => this.#put(changed));
        batch.forEach((waiting, index) => waiting.resolve(outcomes[index] ?? false));
      } catch (error) {
        const failure = new StoreError("STORE_UNAVAILABLE", `the store was not written: ${messageOf(error)}`, {
          cause: error,
        });
        for (const waiting of batch) waiting.reject(failure);
      }
    }
    this.#writing = undefined;
  }

  #holds({ checks = [] }: Change, changed: ReadonlyMap<string, Uint8Array | undefined>): boolean {
    return checks.every((check) => {
      const name = nameOf(check);
      return sameBytes(changed.has(name) ? changed.get(name) : this.#value(check), check.value);
    });
  }

  #note({ sets = [], deletes = [], clears = [] }: Change, changed: Map<string, Uint8Array | undefined>): true {
    for (const { space, partition } of clears) {
      const prefix = `${space}\0${partition}\0`;
      for (const name of changed.keys()) if (name.startsWith(prefix)) changed.set(name, undefined);
      const range = { start: Buffer.from(`${partition}\0`), end: Buffer.from(`${partition}\u0001`) };
      for (const key of this.#database(space).getKeys(range)) changed.set(`${space}\0${textOf(key)}`, undefined);
    }
    for (const place of deletes) changed.set(nameOf(place), undefined);
    for (const entry of sets) changed.set(nameOf(entry), entry.value);
    return true;
  }

  #put(changed: ReadonlyMap<string, Uint8Array | undefined>): void {
    for (const [name, value] of changed) {
      const at = name.indexOf("\0");
      const database = this.#database(name.slice(0, at) as Space);
      const key = Buffer.from(name.slice(at + 1));
      void (value === undefined ? database.remove(key) : database.put(key, value));
    }
  }

  #value({ space, partition, key }: Place): Uint8Array | undefined {
    const value = this.#database(space).get(Buffer.from(`${partition}\0${key}`));
    return value === undefined ? undefined : copy(value);
  }

  #database(space: Space): Database<Uint8Array, Uint8Array> {
    const database = this.#databases.get(space);
    if (database === undefined) throw new TypeError(`no space ${space}`);
    return database;
  }
}

export interface LmdbOptions {
  readonly isReader?: boolean;
  /** False only to measure what fsync costs: what is acknowledged may then be lost with the machine. */
  readonly hasFsync?: boolean;
}

interface BackwardsRange {
  readonly start: Uint8Array;
  readonly end: Uint8Array;
  readonly exclusiveStart: true;
  readonly inclusiveEnd: true;
  readonly reverse: true;
}

interface Waiting {
  readonly change: Change;
  resolve(isCommitted: boolean): void;
  reject(error: Error): void;
}

function nameOf({ space, partition, key }: Place): string {
  return `${space}\0${partition}\0${key}`;
}

function textOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

/** LMDB may give bytes of a buffer that it uses again. */
function copy(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The same entries from the other end: with the least, without the bound. */
const backwards = (least: Uint8Array, bound: Uint8Array): BackwardsRange => ({
  start: bound,
  end: least,
  exclusiveStart: true,
  inclusiveEnd: true,
  reverse: true,
});
const MAX_BATCH = 1000;
const SCAN_PAGE = 1000;
