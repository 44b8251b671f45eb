import type { Backend } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { TIME_KEY_LENGTH, timeKey } from "./time-key.js";

/**
 * What is needed to go on with a DTLS association or session after a restart, as bytes that only their owner reads.
 * `association`: key chosen by the owner, in hexadecimal; `deadline`: partition `association`, key time and that key.
 *
 * Invariants:
 * D1. What has expired is never given.
 * D2. At most `maxEntries` are kept; at the bound those that end first make way.
 */
export class Associations {
  readonly #backend: Backend;
  readonly #maxEntries: number;

  constructor(backend: Backend, maxEntries: number) {
    this.#backend = backend;
    this.#maxEntries = maxEntries;
  }

  async load(id: Uint8Array, now: number): Promise<Uint8Array | undefined> {
    const [bytes] = await this.#backend.get([placeOf(id)]);
    const row = bytes === undefined ? undefined : decodeRow<AssociationRow>(bytes);
    return row === undefined || row.expiresAt <= now ? undefined : row.blob;
  }

  async save(id: Uint8Array, blob: Uint8Array, expiresAt: number): Promise<void> {
    const place = placeOf(id);
    const [before] = await this.#backend.get([place]);
    const row: AssociationRow = { blob, expiresAt };
    const old = before === undefined ? undefined : deadlineOf(place.key, decodeRow<AssociationRow>(before).expiresAt);
    await this.#backend.commit({
      deletes: old === undefined ? [] : [old],
      sets: [
        { ...place, value: encodeRow(row) },
        { ...deadlineOf(place.key, expiresAt), value: new Uint8Array(0) },
      ],
    });
    if (before === undefined && (await this.#backend.count("association")) > this.#maxEntries)
      await this.#drop({ limit: 1 });
  }

  async remove(id: Uint8Array): Promise<void> {
    const place = placeOf(id);
    const [before] = await this.#backend.get([place]);
    if (before === undefined) return;
    await this.#backend.commit({
      deletes: [place, deadlineOf(place.key, decodeRow<AssociationRow>(before).expiresAt)],
    });
  }

  /** Every one that has not expired, for a server that starts. */
  async *all(now: number): AsyncIterable<Uint8Array> {
    for await (const { value } of this.#backend.scan("association")) {
      const { blob, expiresAt } = decodeRow<AssociationRow>(value);
      if (expiresAt > now) yield blob;
    }
  }

  async sweep(now: number): Promise<void> {
    await this.#drop({ before: timeKey(now), limit: SWEEP_PAGE });
  }

  async #drop(range: { readonly before?: string; readonly limit: number }): Promise<void> {
    const due = await this.#backend.range("deadline", "association", range);
    if (due.length === 0) return;
    await this.#backend.commit({
      deletes: due.flatMap(({ key }) => [
        { space: "deadline", partition: "association", key } as const,
        { space: "association", partition: "", key: key.slice(TIME_KEY_LENGTH) } as const,
      ]),
    });
  }
}

interface AssociationRow {
  readonly blob: Uint8Array;
  readonly expiresAt: number;
}

function placeOf(id: Uint8Array): { readonly space: "association"; readonly partition: ""; readonly key: string } {
  return { space: "association", partition: "", key: Buffer.from(id).toString("hex") };
}

function deadlineOf(
  key: string,
  expiresAt: number,
): { readonly space: "deadline"; readonly partition: string; readonly key: string } {
  return { space: "deadline", partition: "association", key: timeKey(expiresAt) + key };
}

const SWEEP_PAGE = 1000;
