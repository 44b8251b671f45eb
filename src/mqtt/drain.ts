import type { Outbox, OutboxEntry } from "#store/index.js";

/**
 * Sends what stands in the outbox, in its order, many at once, and removes each entry when all of it was acknowledged: while
 * the acknowledgements of some are on their way others are read, sent and removed.
 *
 * One round ends when nothing is left or `maxEntries` were sent; then what came meanwhile with an earlier place is met by the
 * next one. Returns how many were removed.
 *
 * @throws what sending or removing failed with first, when no more is on its way: what was not removed is sent again.
 */
export async function drain(outbox: Outbox, send: SendEntry, options: DrainOptions): Promise<number> {
  const { page, maxEntries, maxMessages, onRemoved } = options;
  let after: string | undefined;
  let messages = 0;
  let sent = 0;
  let removed = 0;
  let failure: { readonly error: unknown } | undefined;
  let acknowledged: string[] = [];
  let removing: Promise<void> | undefined;
  let wake: () => void = () => undefined;

  const fail = (error: unknown): void => {
    failure ??= { error };
  };
  const removeAll = async (): Promise<void> => {
    while (acknowledged.length > 0) {
      const keys = acknowledged;
      acknowledged = [];
      await outbox.forwarded(keys);
      removed += keys.length;
      onRemoved(keys.length);
    }
  };
  const remove = (): void => {
    removing ??= removeAll()
      .catch((error: unknown) => {
        acknowledged = [];
        fail(error);
      })
      .finally(() => {
        removing = undefined;
        // What was acknowledged after the last look.
        if (acknowledged.length > 0) remove();
        else wake();
      });
  };
  const begin = (entry: OutboxEntry): void => {
    const size = Math.max(1, entry.records.length);
    messages += size;
    sent += 1;
    send(entry)
      .then(() => {
        acknowledged.push(entry.key);
        remove();
      }, fail)
      .finally(() => {
        messages -= size;
        wake();
      });
  };
  const change = (): Promise<void> => new Promise((resolve) => (wake = resolve));

  while (failure === undefined && sent < maxEntries) {
    const entries = await outbox.next(page, after);
    for (const entry of entries) {
      // One entry goes at least, however many messages it has.
      while (messages >= maxMessages && failure === undefined) await change();
      if (failure !== undefined) break;
      begin(entry);
      after = entry.key;
    }
    if (entries.length < page) break;
  }
  while (messages > 0 || removing !== undefined) await change();
  if (failure !== undefined) throw failure.error;
  return removed;
}

/** Fulfilled when all of an entry was acknowledged. */
export type SendEntry = (entry: OutboxEntry) => Promise<void>;

export interface DrainOptions {
  /** Entries read at once. */
  readonly page: number;
  /** Of one round. */
  readonly maxEntries: number;
  /** Readings that may wait for their acknowledgement. */
  readonly maxMessages: number;
  onRemoved(this: void, entries: number): void;
}
