import { createClient, RESP_TYPES } from "redis";
import { messageOf } from "#errors/index.js";
import { within } from "#waiting/index.js";
import type { Backend, Change, Entry, Message, Place, PlacedEntry, Range, Space } from "./backend.js";
import { StoreError } from "./errors.js";
import { GroupCommit } from "./group-commit.js";
import { COMMIT_SCRIPT, commitWords } from "./redis-commit.js";

/**
 * Redis, for several servers that share one fleet. A partition is a hash of its values and a sorted set of its keys. Changes
 * go in groups, each one script, so that a change is atomic for all servers; its durability is Redis's: the append-only file
 * with an fsync before the reply (`appendfsync always`), or from Redis 7.2 on a wait for the fsync (WAITAOF).
 *
 * A connection on which nothing comes any more is given up, and made again; what it leads to then may have been restarted with
 * another configuration, so nothing is written before that was looked at.
 */
export class RedisBackend implements Backend {
  readonly kind = "redis";
  readonly #client: Client;
  readonly #subscriber: Client;
  readonly #prefix: string;
  #commitHash = "";
  #hasConnected = false;
  #waitsForFsync = false;
  readonly #dangerVolatile: boolean;
  readonly #onReconnected: () => unknown;
  /** How many there were until now, and which of them leads to a Redis that keeps what it acknowledges. */
  #connection = 0;
  #checkedConnection = 0;
  #heardAt = 0;
  /** A command had no answer in its time, nor had any after it: what is asked further would only wait in a queue. */
  #isSilent = false;
  readonly #group = new GroupCommit((changes) => this.#write(changes), MAX_GROUP);

  private constructor(url: string, options: RedisOptions & Pick<Required<RedisOptions>, "onError">) {
    const { prefix = "dpe:", dangerVolatile = false, onError, onReconnected = () => undefined } = options;
    this.#prefix = prefix;
    this.#dangerVolatile = dangerVolatile;
    this.#onReconnected = onReconnected;
    this.#client = clientOf(url, () => this.#hasConnected);
    this.#client.on("ready", () => this.#ready());
    this.#subscriber = this.#client.duplicate();
    for (const client of [this.#client, this.#subscriber]) client.on("error", onError);
  }

  /** @throws StoreError STORE_UNAVAILABLE, STORE_NOT_DURABLE. */
  static async open(url: string, options: RedisOptions = {}): Promise<RedisBackend> {
    let lastError: unknown;
    let backend: RedisBackend | undefined;
    try {
      const onError = (error: unknown): void => {
        lastError = error;
        options.onError?.(unavailable(error, "the connection with Redis"));
      };
      backend = new RedisBackend(url, { ...options, onError });
      const connecting = [backend.#client.connect(), backend.#subscriber.connect()];
      for (const one of connecting) one.catch(() => undefined);
      await answered(CONNECT_TIMEOUT_MS, Promise.all(connecting));
      backend.#hasConnected = true;
      backend.#commitHash = String(await backend.#send(["SCRIPT", "LOAD", COMMIT_SCRIPT]));
      await backend.#checkDurability();
      return backend;
    } catch (error) {
      await backend?.close();
      if (error instanceof StoreError && error.code === "STORE_NOT_DURABLE") throw error;
      throw unavailable(lastError ?? error, `Redis at ${withoutPassword(url)} cannot be used`);
    }
  }

  async get(places: readonly Place[]): Promise<readonly (Uint8Array | undefined)[]> {
    const byPartition = new Map<string, Place[]>();
    for (const place of places) {
      const name = this.#hash(place);
      const group = byPartition.get(name);
      if (group === undefined) byPartition.set(name, [place]);
      else group.push(place);
    }
    const found = new Map<Place, Uint8Array | undefined>();
    await Promise.all(
      [...byPartition].map(async ([name, group]) => {
        const values = (await this.#send(["HMGET", name, ...group.map(({ key }) => key)])) as (Buffer | null)[];
        group.forEach((place, index) => {
          const value = values[index];
          found.set(place, value === null || value === undefined ? undefined : Uint8Array.from(value));
        });
      }),
    );
    return places.map((place) => found.get(place));
  }

  async range(space: Space, partition: string, range: Range): Promise<readonly Entry[]> {
    const { from, after, before, limit, isReverse = false } = range;
    const least = after === undefined ? (from === undefined ? "-" : `[${from}`) : `(${after}`;
    const bound = before === undefined ? "+" : `(${before}`;
    const ends = isReverse ? [bound, least, "BYLEX", "REV"] : [least, bound, "BYLEX"];
    const count = String(Number.isFinite(limit) ? limit : -1);
    const keys = (await this.#send([
      "ZRANGE",
      this.#index({ space, partition }),
      ...ends,
      "LIMIT",
      "0",
      count,
    ])) as Buffer[];
    if (keys.length === 0) return [];
    const values = await this.get(keys.map((key) => ({ space, partition, key: key.toString("latin1") })));
    return keys.flatMap((key, index) => {
      const value = values[index];
      // What another server deleted between the two reads is not there.
      return value === undefined ? [] : [{ key: key.toString("latin1"), value }];
    });
  }

  async count(space: Space): Promise<number> {
    return Number(await this.#send(["ZCARD", this.#index({ space, partition: "" })]));
  }

  async *scan(space: Space): AsyncIterable<PlacedEntry> {
    const start = `${this.#prefix}z:${space}:`;
    const pattern = `${start.replaceAll(/[*?[\]\\^]/g, "\\$&")}*`;
    const partitions = new Set<string>();
    let cursor = "0";
    do {
      const [next, names] = (await this.#send(["SCAN", cursor, "MATCH", pattern, "COUNT", "1000"])) as [
        Buffer,
        Buffer[],
      ];
      for (const name of names) partitions.add(name.toString("latin1").slice(start.length));
      cursor = String(next);
    } while (cursor !== "0");
    for (const partition of partitions) {
      let after: string | undefined;
      for (;;) {
        const page = await this.range(space, partition, {
          ...(after === undefined ? {} : { after }),
          limit: SCAN_PAGE,
        });
        for (const { key, value } of page) yield { space, partition, key, value };
        after = page.at(-1)?.key;
        if (page.length < SCAN_PAGE) break;
      }
    }
  }

  commit(change: Change): Promise<boolean> {
    return this.#group.commit(change);
  }

  publish(channel: string, message: Message): void {
    // A message to nobody, as while Redis is away, is lost: whoever needs an answer waits for it with a time limit.
    this.#send(["PUBLISH", this.#prefix + channel, message()]).catch(() => undefined);
  }

  async subscribe(channel: string, listener: (message: Uint8Array) => void): Promise<() => void> {
    const name = this.#prefix + channel;
    const onMessage = (message: Buffer): void => listener(message);
    await this.#subscriber.subscribe(name, onMessage, true);
    return () => {
      this.#subscriber.unsubscribe(name, onMessage, true).catch(() => undefined);
    };
  }

  close(): Promise<void> {
    for (const client of [this.#client, this.#subscriber]) if (client.isOpen) client.destroy();
    return Promise.resolve();
  }

  #ready(): void {
    this.#connection += 1;
    this.#isSilent = false;
    if (this.#hasConnected) this.#onReconnected();
  }

  async #write(changes: readonly Change[]): Promise<readonly (boolean | StoreError)[]> {
    if (this.#checkedConnection !== this.#connection) await this.#checkDurability();
    const connection = this.#connection;
    const outcomes = (await this.#evaluate(commitWords(changes, this.#prefix))) as readonly unknown[];
    if (this.#waitsForFsync) await this.#fsynced();
    // That was the answer of another one, then, which knows nothing of what was written here.
    if (connection !== this.#connection) throw unavailable("the connection was lost", "Redis did not write");
    return outcomes.map((outcome) =>
      typeof outcome === "number" ? outcome === 1 : unavailable(String(outcome), "Redis did not write"),
    );
  }

  async #evaluate(words: readonly Word[]): Promise<unknown> {
    try {
      return await this.#send(["EVALSHA", this.#commitHash, "0", ...words]);
    } catch (error) {
      // A restarted Redis has forgotten its scripts, though not what they wrote.
      if (!(error instanceof StoreError && String(error.cause).includes("NOSCRIPT"))) throw error;
      return this.#send(["EVAL", COMMIT_SCRIPT, "0", ...words]);
    }
  }

  /** What was sent before is on the disk. */
  async #fsynced(): Promise<void> {
    const reply = (await this.#send(["WAITAOF", "1", "0", String(COMMAND_TIMEOUT_MS)])) as unknown[];
    if (Number(reply[0]) < 1) throw new StoreError("STORE_UNAVAILABLE", "Redis did not write to its disk in time");
  }

  /** @throws StoreError STORE_NOT_DURABLE. */
  async #checkDurability(): Promise<void> {
    const connection = this.#connection;
    const info = String(await this.#send(["INFO"]));
    if (!this.#dangerVolatile) await this.#refuseVolatile(info);
    this.#checkedConnection = connection;
  }

  async #refuseVolatile(info: string): Promise<void> {
    const evicts = /^maxmemory:[1-9]/m.test(info) ? /^maxmemory_policy:(allkeys\S*)/m.exec(info)?.[1] : undefined;
    if (evicts !== undefined) {
      throw new StoreError(
        "STORE_NOT_DURABLE",
        `Redis would forget what it acknowledged when its memory is full: set "maxmemory-policy noeviction" (found ${evicts})`,
      );
    }
    const hasFile = /^aof_enabled:1/m.test(info);
    const [major = 0, minor = 0] = (/^redis_version:([\d.]+)/m.exec(info)?.[1] ?? "").split(".").map(Number);
    this.#waitsForFsync = hasFile && (major > 7 || (major === 7 && minor >= 2));
    if (this.#waitsForFsync) return;
    const policy = hasFile ? await this.#fsyncPolicy() : "";
    if (policy === "always") return;
    throw new StoreError(
      "STORE_NOT_DURABLE",
      hasFile
        ? `Redis ${major}.${minor} would lose what it acknowledged last: set "appendfsync always" (found ${policy}), or use Redis 7.2`
        : 'Redis keeps nothing on disk: set "appendonly yes" and "appendfsync always"',
    );
  }

  async #fsyncPolicy(): Promise<string> {
    const reply = await this.#send(["CONFIG", "GET", "appendfsync"]).catch(() => undefined);
    const values =
      reply instanceof Map ? [...reply.values()] : typeof reply === "object" ? Object.values(reply ?? {}) : [];
    return values.length === 0 ? "not told" : String(values.at(-1));
  }

  async #send(words: readonly Word[]): Promise<unknown> {
    if (this.#isSilent) throw new StoreError("STORE_UNAVAILABLE", "Redis does not answer");
    const sentAt = performance.now();
    try {
      const given = words.map((word) => (typeof word === "string" ? word : bufferOf(word)));
      const answer = this.#client.sendCommand(given, COMMAND_OPTIONS);
      const heard = (): void => this.#heard();
      // Also one that comes too late.
      answer.then(heard, heard);
      return await answered(ANSWER_TIMEOUT_MS, answer);
    } catch (error) {
      if (error instanceof TooLate && this.#heardAt < sentAt) this.#isSilent = true;
      throw unavailable(error, "Redis did not answer");
    }
  }

  #heard(): void {
    this.#heardAt = performance.now();
    this.#isSilent = false;
  }

  #hash({ space, partition }: Omit<Place, "key">): string {
    return `${this.#prefix}h:${space}:${partition}`;
  }

  #index({ space, partition }: Omit<Place, "key">): string {
    return `${this.#prefix}z:${space}:${partition}`;
  }
}

export interface RedisOptions {
  /** Before every key and channel; two fleets on one Redis need two. Default `dpe:`. */
  readonly prefix?: string;
  /** Use a Redis that may lose what it acknowledged. Default false. */
  readonly dangerVolatile?: boolean;
  /** Told of each lost connection; it is made again by itself. */
  readonly onError?: (error: unknown) => void;
  /** Told when it was made again. */
  readonly onReconnected?: () => unknown;
}

type Word = string | Uint8Array;
type Client = ReturnType<typeof clientOf>;

// oxlint-disable-next-line typescript/explicit-module-boundary-types -- the client's type is what this makes
function clientOf(url: string, hasConnected: () => boolean): ReturnType<typeof createClient> {
  return createClient({
    url,
    disableOfflineQueue: true,
    pingInterval: PING_INTERVAL_MS,
    socket: {
      connectTimeout: CONNECT_TIMEOUT_MS,
      // Of a connection that is neither written nor read: one on which a ping, or what is asked, has no answer.
      socketTimeout: ANSWER_TIMEOUT_MS, // The first connection fails at once, so that a wrong address is told; later ones are made again for ever.
      reconnectStrategy: (retries, cause) => (hasConnected() ? Math.min(50 * 2 ** retries, 2000) : cause),
    },
  });
}

function unavailable(error: unknown, what: string): StoreError {
  const message = error instanceof AggregateError ? String(error.errors[0]) : messageOf(error);
  const advice = ADVICE.find(([beginning]) => message.includes(beginning))?.[1];
  return new StoreError("STORE_UNAVAILABLE", `${what}: ${message}${advice === undefined ? "" : ` – ${advice}`}`, {
    cause: error,
  });
}

function answered<T>(ms: number, promise: Promise<T>): Promise<T> {
  return within(ms, promise, () => {
    throw new TooLate(`no answer within ${ms / 1000} s`);
  });
}

class TooLate extends Error {}

/** The same bytes. */
function bufferOf(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, "//");
}

const COMMAND_OPTIONS = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } as const;
const CONNECT_TIMEOUT_MS = 10_000;
const COMMAND_TIMEOUT_MS = 5000;
const ANSWER_TIMEOUT_MS = COMMAND_TIMEOUT_MS * 2;
const PING_INTERVAL_MS = 3000;
/** What an operator can do, by what Redis says. */
const ADVICE: readonly (readonly [string, string])[] = [
  ["OOM ", "raise its maxmemory, or keep less (history)"],
  ["READONLY ", "it is a replica: store must name the Redis that is written to"],
  ["NOAUTH ", "store must name its password, redis://:PASSWORD@HOST"],
  ["WRONGPASS ", "store names another password than Redis has"],
];
/** Redis serves nobody else while it runs a script: a change of a report takes some 10 µs there. */
const MAX_GROUP = 250;
const SCAN_PAGE = 1000;
