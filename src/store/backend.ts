/**
 * What a database must do for the store: ordered entries, conditional atomic changes that are durable when they are
 * acknowledged, and messages between servers that share it. Everything else of the store is written once, on this.
 *
 * Invariants that each backend keeps:
 * B1. A change is applied whole, and only when each of its checks holds at that moment; else not at all.
 * B2. When `commit` is fulfilled with true, the change survives the end of this process, and of the machine as far as the
 *     backend says it is durable. What was not acknowledged is there whole or not at all.
 * B3. A read sees every change acknowledged before it began.
 * B4. Within a partition, entries are in the order of their keys' bytes.
 */
export interface Backend {
  readonly kind: BackendKind;
  /** In the order of the places; undefined where there is nothing. The caller owns the bytes. */
  get(places: readonly Place[]): Promise<readonly (Uint8Array | undefined)[]>;
  /** Entries of one partition in order of their keys, or backwards. */
  range(space: Space, partition: string, range: Range): Promise<readonly Entry[]>;
  /** How many entries the partition "" of a space has. */
  count(space: Space): Promise<number>;
  /** Every entry of a space, for export and check. Not a snapshot: what changes meanwhile is seen or not. */
  scan(space: Space): AsyncIterable<PlacedEntry>;
  /** Fulfilled with false, nothing changed, when a check did not hold. @throws StoreError STORE_UNAVAILABLE. */
  commit(change: Change): Promise<boolean>;
  /** To every subscriber on any server of this store, this one included; those that are not there miss it. */
  publish(channel: string, message: Message): void;
  /** Returns what ends the subscription. */
  subscribe(channel: string, listener: (message: Uint8Array) => void): Promise<() => void>;
  close(): Promise<void>;
}

/** Made only where somebody may hear it: at once, if at all. */
export type Message = () => Uint8Array;

export type BackendKind = "memory" | "lmdb" | "redis";

/** Each kind of entry has a space of its own; its layout is told where it is written. */
export const SPACES = [
  "meta",
  "device",
  "registration",
  "owned",
  "heard",
  "latest",
  "history",
  "deadline",
  "subscriber",
  "queue",
  "audit",
  "unproven",
  "outbox",
] as const;
export type Space = (typeof SPACES)[number];

/** Partition and key are ASCII without NUL, but for the NUL between the two names of a partition of `history`. */
export interface Place {
  readonly space: Space;
  readonly partition: string;
  readonly key: string;
}

export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
}

export interface PlacedEntry extends Place {
  readonly value: Uint8Array;
}

export interface Range {
  /** The least key, included. */
  readonly from?: string;
  /** Only keys above this one. */
  readonly after?: string;
  /** Only keys below this one. */
  readonly before?: string;
  readonly limit: number;
  readonly isReverse?: boolean;
}

/** One atomic change. Clears come first, then deletes, then sets. */
export interface Change {
  readonly checks?: readonly Check[];
  readonly sets?: readonly PlacedEntry[];
  readonly deletes?: readonly Place[];
  /** Partitions that lose all their entries. */
  readonly clears?: readonly { readonly space: Space; readonly partition: string }[];
}

/** Holds when the place has exactly this value, or nothing where it is undefined. */
export interface Check extends Place {
  readonly value: Uint8Array | undefined;
}
