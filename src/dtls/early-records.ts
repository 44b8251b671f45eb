import { copyOf } from "./wire/writer.js";

/**
 * What arrives too early, bounded in bytes: records of epoch 1 before its keys, and data before the handshake's end
 * (RFC 6347 §4.1, §4.2.8 leave it to us to keep or drop them).
 */
export class EarlyRecords {
  readonly #maxBytes: number;
  #heldBytes = 0;
  #sealed: Uint8Array[] = NOTHING;
  #data: Uint8Array[] = NOTHING;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Keeps a copy of a whole record, once; false when there is no room. */
  holdSealed(record: Uint8Array): boolean {
    for (const held of this.#sealed) if (Buffer.compare(held, record) === 0) return true;
    if (!this.#take(record.length)) return false;
    if (this.#sealed === NOTHING) this.#sealed = [];
    this.#sealed.push(copyOf(record));
    return true;
  }

  /** Keeps data that have verified; false when there is no room. */
  holdData(data: Uint8Array): boolean {
    if (!this.#take(data.length)) return false;
    if (this.#data === NOTHING) this.#data = [];
    this.#data.push(data);
    return true;
  }

  takeSealed(): readonly Uint8Array[] {
    const sealed = this.#sealed;
    this.#sealed = NOTHING;
    for (const record of sealed) this.#heldBytes -= record.length + COST_BYTES;
    return sealed;
  }

  takeData(): readonly Uint8Array[] {
    const data = this.#data;
    this.#data = NOTHING;
    for (const item of data) this.#heldBytes -= item.length + COST_BYTES;
    return data;
  }

  #take(bytes: number): boolean {
    if (this.#heldBytes + bytes + COST_BYTES > this.#maxBytes) return false;
    this.#heldBytes += bytes + COST_BYTES;
    return true;
  }
}

/** Never added to: most handshakes hold nothing early. */
const NOTHING: Uint8Array[] = [];
/** What an item costs besides its bytes. */
const COST_BYTES = 64;
