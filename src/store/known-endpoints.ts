import type { Registration } from "#dpe/index.js";
import type { HeardRow } from "./device.js";
import type { LatestState } from "./latest-state.js";

/**
 * What this process has read or written of the endpoints that report: those heard longest ago make way. It may be old, as
 * when another server has written since; so nothing is decided by it but a change whose checks name all that it rests on.
 */
export class KnownEndpoints {
  readonly #maxRows: number;
  /** By the id of the registration, the one heard last at the end. */
  readonly #known = new Map<string, KnownEndpoint>();
  #rows = 0;

  /** @param maxRows - at most so many; 0: nothing is kept. */
  constructor(maxRows: number) {
    this.#maxRows = maxRows;
  }

  /** Gives what is known, and forgets it until it is put back: what fails meanwhile leaves nothing that is wrong. */
  take(id: string): KnownEndpoint | undefined {
    const known = this.#known.get(id);
    if (known === undefined) return undefined;
    this.#known.delete(id);
    this.#rows -= rowsOf(known);
    return known;
  }

  put(id: string, known: KnownEndpoint): void {
    this.take(id);
    this.#known.set(id, known);
    this.#rows += rowsOf(known);
    while (this.#rows > this.#maxRows) {
      const [oldest] = this.#known.keys();
      if (oldest === undefined) return;
      this.take(oldest);
    }
  }
}

/** The rows that a report rests on. */
export interface KnownEndpoint {
  /** The very bytes of its row in `device`, which are all that is asked of it: a row takes a kilobyte. */
  readonly device: Uint8Array;
  /** The registration in it, whether or not it has expired. */
  readonly registration: Registration;
  readonly heard: KeptRow<HeardRow> | undefined;
  /** By name: of the properties that were reported. Whoever took it adds to it. */
  readonly latest: Map<string, LatestState>;
}

/** A row and its very bytes, for checks. */
export interface KeptRow<Row> {
  readonly row: Row;
  readonly bytes: Uint8Array;
}

function rowsOf({ latest }: KnownEndpoint): number {
  return ROWS_BESIDE_LATEST + latest.size;
}

const ROWS_BESIDE_LATEST = 2;
