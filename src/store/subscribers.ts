import type { InterfaceName } from "#dpe/index.js";
import type { Backend } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";

/**
 * Subscribers that were added while the server ran, beside those of its configuration. `subscriber`: key the name's UTF-8
 * in hexadecimal.
 *
 * Invariants:
 * S1. Of a password only HA1 values are kept (RFC 7616 §5.2), never the password.
 * S2. A banned subscriber keeps its credentials, so that lifting the ban needs none.
 */
export class StoredSubscribers {
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  async list(): Promise<readonly SubscriberRow[]> {
    const rows = await this.#backend.range("subscriber", "", { limit: Infinity });
    return rows.map(({ value }) => decodeRow<SubscriberRow>(value));
  }

  /** False when there is one of that name. */
  add(row: SubscriberRow): Promise<boolean> {
    const place = placeOf(row.name);
    return this.#backend.commit({
      checks: [{ ...place, value: undefined }],
      sets: [{ ...place, value: encodeRow(row) }],
    });
  }

  /** Changes one; false when there is none of that name. */
  change(name: string, update: (row: SubscriberRow) => SubscriberRow): Promise<boolean> {
    const place = placeOf(name);
    return commitUntil(this.#backend, async () => {
      const [bytes] = await this.#backend.get([place]);
      if (bytes === undefined) return { change: undefined, result: false };
      const value = encodeRow(update(decodeRow(bytes)));
      return { change: { checks: [{ ...place, value: bytes }], sets: [{ ...place, value }] }, result: true };
    });
  }

  /** False when there is none of that name. */
  remove(name: string): Promise<boolean> {
    const place = placeOf(name);
    return commitUntil(this.#backend, async () => {
      const [bytes] = await this.#backend.get([place]);
      if (bytes === undefined) return { change: undefined, result: false };
      return { change: { checks: [{ ...place, value: bytes }], deletes: [place] }, result: true };
    });
  }
}

export interface SubscriberRow {
  readonly name: string;
  /** HA1 by hash, for this realm. */
  readonly digest?: { readonly realm: string; readonly ha1: Readonly<Record<string, Uint8Array>> };
  readonly psk?: { readonly identity: string; readonly key: Uint8Array };
  readonly certificates?: readonly string[];
  /** Fingerprints of public keys. */
  readonly keys?: readonly string[];
  readonly endpoints?: readonly string[];
  readonly interfaces?: readonly InterfaceName[];
  readonly isBanned?: boolean;
  /** Of the configuration, and here only to be banned. */
  readonly isConfigured?: boolean;
}

function placeOf(name: string): { readonly space: "subscriber"; readonly partition: ""; readonly key: string } {
  return { space: "subscriber", partition: "", key: Buffer.from(name).toString("hex") };
}
