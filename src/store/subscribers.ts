import type { InterfaceName } from "#dpe/index.js";
import type { Backend, Change } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";

/**
 * Subscribers that were added while the server ran, beside those of its configuration. `subscriber`: key the name's UTF-8
 * in hexadecimal. `meta`: key `subscribers`, how many changes there were.
 *
 * Invariants:
 * S1. Of a password only HA1 values are kept (RFC 7616 §5.2), never the password.
 * S2. A banned subscriber keeps its credentials, so that lifting the ban needs none.
 * S3. Each change counts one up, so that whoever missed the message of one can tell.
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

  async named(name: string): Promise<SubscriberRow | undefined> {
    const [bytes] = await this.#backend.get([placeOf(name)]);
    return bytes === undefined ? undefined : decodeRow(bytes);
  }

  /** How many changes there have been (S3). */
  async version(): Promise<number> {
    return versionOf((await this.#backend.get([VERSION_PLACE]))[0]);
  }

  /** Gives the number of the change; undefined when there is one of that name. */
  add(row: SubscriberRow): Promise<number | undefined> {
    return this.#change(row.name, (before) => (before === undefined ? row : undefined));
  }

  /** Changes one; gives the number of the change, undefined when there is none of that name. */
  change(name: string, update: (row: SubscriberRow) => SubscriberRow): Promise<number | undefined> {
    return this.#change(name, (before) => before && update(before));
  }

  /** Gives the number of the change; undefined when there is none of that name. */
  remove(name: string): Promise<number | undefined> {
    return this.#change(name, (before) => before && "removed");
  }

  /** `update` gives undefined where nothing is to change. */
  #change(
    name: string,
    update: (before: SubscriberRow | undefined) => SubscriberRow | "removed" | undefined,
  ): Promise<number | undefined> {
    const place = placeOf(name);
    return commitUntil(this.#backend, async () => {
      const [bytes, count] = await this.#backend.get([place, VERSION_PLACE]);
      const after = update(bytes === undefined ? undefined : decodeRow(bytes));
      if (after === undefined) return { change: undefined, result: undefined };
      const version = versionOf(count) + 1;
      const counted = { ...VERSION_PLACE, value: encodeRow({ version }) };
      const change: Change = {
        checks: [
          { ...place, value: bytes },
          { ...VERSION_PLACE, value: count },
        ],
        ...(after === "removed" ? { deletes: [place] } : {}),
        sets: [...(after === "removed" ? [] : [{ ...place, value: encodeRow(after) }]), counted],
      };
      return { change, result: version };
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

function versionOf(bytes: Uint8Array | undefined): number {
  return bytes === undefined ? 0 : decodeRow<{ readonly version: number }>(bytes).version;
}

const VERSION_PLACE = { space: "meta", partition: "", key: "subscribers" } as const;
