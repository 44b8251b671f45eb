import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { type Database, open, type RootDatabase } from "lmdb";
import { messageOf } from "#errors/index.js";
import { LockFile } from "#files/index.js";
import {
  type Backend,
  type Change,
  type Entry,
  type Message,
  type Place,
  type PlacedEntry,
  type Range,
  type Space,
  SPACES,
} from "./backend.js";
import { sameBytes } from "./bytes.js";
import { StoreError } from "./errors.js";
import { GroupCommit } from "./group-commit.js";
import { LATIN1_KEYS } from "./latin1-keys.js";
import { faultOfPages } from "./lmdb-pages.js";
import { LocalChannels } from "./local-channels.js";

/**
 * LMDB in a folder of its own, for one server. The folder has mode 0700 and its files 0600.
 *
 * A key is `partition NUL key`, one database a space. Changes are written in groups, with one fsync for all of a group. Checks
 * are looked at here, between two writes: there is no other writer, which the owner file sees to.
 */
export class LmdbBackend implements Backend {
  readonly kind = "lmdb";
  readonly #environment: RootDatabase<Uint8Array, string>;
  readonly #databases: ReadonlyMap<Space, SpaceDatabase | undefined>;
  readonly #owner: LockFile | undefined;
  readonly #channels = new LocalChannels();
  readonly #group = new GroupCommit((changes) => this.#write(changes), MAX_GROUP);
  /** For the values of one group. */
  #room: Uint8Array = new Uint8Array(ROOM_BYTES);

  /**
   * @param isReader - only reads, beside a server that may be running; it commits nothing.
   * @throws StoreError STORE_IN_USE, STORE_DAMAGED, STORE_UNAVAILABLE.
   */
  constructor(folder: string, { isReader = false, hasFsync = true }: LmdbOptions = {}) {
    try {
      if (!isReader) {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        // LMDB would make its files readable to the group.
        for (const name of ["data.mdb", "lock.mdb"]) closeSync(openSync(join(folder, name), "a", 0o600));
      }
      const owner = join(folder, "owner");
      this.#owner = isReader ? undefined : takeLock(owner);
      // It may be what ended the process before, and would end this one.
      refuseDamage(join(folder, "data.mdb"), this.#owner?.isInherited ?? !LockFile.isHeld(owner));
      this.#environment = open({
        path: folder,
        maxDbs: SPACES.length,
        keyEncoder: LATIN1_KEYS,
        encoding: "binary",
        // A write is then acknowledged after the fsync, not before.
        overlappingSync: false,
        // Groups are made here. The library's own would be promises that nobody has, whose rejection ends the process.
        eventTurnBatching: false,
        noSync: !hasFsync,
        readOnly: isReader,
        noSubdir: false,
      });
      this.#databases = new Map(
        SPACES.map((name) => {
          // A variable, since the library's types leave out `keyEncoder` here.
          const options = { name, keyEncoder: LATIN1_KEYS, encoding: "binary" } as const;
          const database: SpaceDatabase | undefined = this.#environment.openDB<Uint8Array, string>(options);
          return [name, database];
        }),
      );
    } catch (error) {
      if (error instanceof StoreError) throw error;
      throw new StoreError("STORE_UNAVAILABLE", `the store ${folder} cannot be opened: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  async get(places: readonly Place[]): Promise<readonly (Uint8Array | undefined)[]> {
    return read(() =>
      places.map((place) => {
        const value = this.#database(place.space).getBinaryFast(keyOf(place));
        return value === undefined ? undefined : copy(value);
      }),
    );
  }

  async range(space: Space, partition: string, range: Range): Promise<readonly Entry[]> {
    const prefix = `${partition}\0`;
    const least = `${prefix}${range.after === undefined ? (range.from ?? "") : `${range.after}\0`}`;
    const bound = range.before === undefined ? `${partition}\u0001` : `${prefix}${range.before}`;
    const limit = Math.min(range.limit, 2 ** 31);
    if (least >= bound) return [];
    const bounds = range.isReverse === true ? backwards(least, bound) : { start: least, end: bound };
    const entries = read(() => [...this.#database(space).getRange({ ...bounds, limit })]);
    return entries.map(({ key, value }) => ({ key: key.slice(prefix.length), value: copy(value) }));
  }

  count(space: Space): Promise<number> {
    const stats: { readonly entryCount?: number } = this.#database(space).getStats();
    return Promise.resolve(stats.entryCount ?? 0);
  }

  async *scan(space: Space): AsyncIterable<PlacedEntry> {
    // To a reader of a store that an older version wrote, which knew no such space.
    if (this.#databases.get(space) === undefined) return;
    let start = "\0";
    for (;;) {
      const page = read(() => [...this.#database(space).getRange({ start, limit: SCAN_PAGE })]);
      for (const { key, value } of page) {
        const end = key.lastIndexOf("\0");
        yield { space, partition: key.slice(0, end), key: key.slice(end + 1), value: copy(value) };
      }
      const last = page.at(-1);
      if (last === undefined || page.length < SCAN_PAGE) return;
      start = `${last.key}\0`;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  commit(change: Change): Promise<boolean> {
    return this.#group.commit(change);
  }

  publish(channel: string, message: Message): void {
    this.#channels.publish(channel, message);
  }

  subscribe(channel: string, listener: (message: Uint8Array) => void): Promise<() => void> {
    return Promise.resolve(this.#channels.subscribe(channel, listener));
  }

  async close(): Promise<void> {
    await this.#group.settled();
    await this.#environment.close();
    this.#owner?.release();
  }

  async #write(changes: readonly Change[]): Promise<readonly boolean[]> {
    const changed: Changed = new Map(SPACES.map((space) => [space, new Map<string, Uint8Array | undefined>()]));
    const outcomes = read(() =>
      changes.map((change) => {
        const isCommitted = this.#holds(change, changed);
        if (isCommitted) this.#note(change, changed);
        return isCommitted;
      }),
    );
    try {
      if (outcomes.includes(true)) await this.#environment.batch(() => this.#put(changed));
      return outcomes;
    } catch (error) {
      // LMDB may still read what it was given.
      this.#room = new Uint8Array(ROOM_BYTES);
      const cause = await causeOf(error);
      throw new StoreError("STORE_UNAVAILABLE", `the store was not written: ${messageOf(cause)}`, { cause });
    }
  }

  #holds({ checks = [] }: Change, changed: Changed): boolean {
    return checks.every((check) => {
      const key = keyOf(check);
      const before = changed.get(check.space);
      const value = before?.has(key) === true ? before.get(key) : this.#database(check.space).getBinaryFast(key);
      return sameBytes(value, check.value);
    });
  }

  #note({ sets = [], deletes = [], clears = [] }: Change, changed: Changed): void {
    for (const { space, partition } of clears) {
      const before = changed.get(space);
      for (const key of before?.keys() ?? []) if (key.startsWith(`${partition}\0`)) before?.set(key, undefined);
      const range = { start: `${partition}\0`, end: `${partition}\u0001` };
      for (const key of this.#database(space).getKeys(range)) before?.set(key, undefined);
    }
    for (const place of deletes) changed.get(place.space)?.set(keyOf(place), undefined);
    for (const entry of sets) changed.get(entry.space)?.set(keyOf(entry), entry.value);
  }

  /**
   * LMDB reads the values where they stand, and asks for the address of each array that it has not seen before; which V8
   * answers by moving a short one out of its heap, for good, and that is 300 bytes of which V8 knows a third. So they all
   * stand in one array, which is used again for the next group.
   */
  #put(changed: Changed): void {
    let at = 0;
    const room = this.#roomFor(changed);
    for (const [space, entries] of changed) {
      const database = this.#database(space);
      for (const [key, value] of entries) {
        if (value === undefined) {
          void database.remove(key);
          continue;
        }
        const end = at + value.length;
        room.set(value, at);
        void database.put(key, room.subarray(at, end));
        at = end;
      }
    }
  }

  #roomFor(changed: Changed): Uint8Array {
    let bytes = 0;
    for (const entries of changed.values()) for (const value of entries.values()) bytes += value?.length ?? 0;
    return bytes <= this.#room.length ? this.#room : new Uint8Array(bytes);
  }

  #database(space: Space): SpaceDatabase {
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

type SpaceDatabase = Database<Uint8Array, string>;

/** What a group sets, and deletes (undefined), by space and key. */
type Changed = ReadonlyMap<Space, Map<string, Uint8Array | undefined>>;

interface BackwardsRange {
  readonly start: string;
  readonly end: string;
  readonly exclusiveStart: true;
  readonly inclusiveEnd: true;
  readonly reverse: true;
}

function takeLock(path: string): LockFile {
  return LockFile.take(path, (holder) => new StoreError("STORE_IN_USE", `the store is in use by ${holder} (${path})`));
}

function keyOf({ partition, key }: Place): string {
  return `${partition}\0${key}`;
}

/** @throws StoreError STORE_DAMAGED. */
function refuseDamage(file: string, isThorough: boolean): void {
  const fault = faultOfPages(file, isThorough);
  if (fault !== undefined) throw new StoreError("STORE_DAMAGED", `${file} is damaged: ${fault}; ${REMEDY}`);
}

/** What LMDB fails with when it reads is damage. @throws StoreError STORE_DAMAGED. */
function read<Result>(look: () => Result): Result {
  try {
    return look();
  } catch (error) {
    throw new StoreError("STORE_DAMAGED", `the store cannot be read: ${messageOf(error)}; ${REMEDY}`, { cause: error });
  }
}

/** LMDB gives bytes of a buffer that it uses again. */
function copy(bytes: Uint8Array): Uint8Array {
  const copied = new Uint8Array(bytes.length);
  for (let index = 0; index < copied.length; index++) copied[index] = bytes[index] ?? 0;
  return copied;
}

/** LMDB's word on a transaction that failed, which the library gives as a promise of its own: unheard, it would end the process. */
async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error && "commitError" in error)) return error;
  try {
    await Promise.race([error.commitError, new Promise((resolve) => setImmediate(resolve))]);
    return error;
  } catch (cause) {
    return cause;
  }
}

/** The same entries from the other end: with the least, without the bound. */
const backwards = (least: string, bound: string): BackwardsRange => ({
  start: bound,
  end: least,
  exclusiveStart: true,
  inclusiveEnd: true,
  reverse: true,
});
const REMEDY = "move its folder away, and import an export, or begin anew";
const MAX_GROUP = 1000;
const SCAN_PAGE = 1000;
/** Of the room that is kept; a group has 1 to 30 kB. */
const ROOM_BYTES = 65_536;
