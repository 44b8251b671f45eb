import { pause } from "#waiting/index.js";
import type { Change } from "./backend.js";

/**
 * Changes that arrive while others are being written wait, and are then written together: one wait for the disk serves all
 * of them.
 *
 * Invariants:
 * G1. Changes are written in the order in which they came, one group after the other: the next one gathers meanwhile.
 * G2. A change is acknowledged when its group is written; what the group fails with is told to each of its changes.
 */
export class GroupCommit {
  readonly #write: WriteGroup;
  readonly #maxChanges: number;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #lastBegan = 0;
  #lastSize = 0;
  /** Changes that came while the last group gathered. */
  #perMs = 0;

  /** @param maxChanges - of one group. */
  constructor(write: WriteGroup, maxChanges: number) {
    this.#write = write;
    this.#maxChanges = maxChanges;
  }

  /** Fulfilled with what the group's outcome says of this change. */
  commit(change: Change): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ change, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
  }

  /** Fulfilled when nothing waits. */
  async settled(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /**
   * Whatever else this turn of the event loop brings is part of the group; and where so much comes that it is worth it, what
   * comes until {@link GATHER_MS} have passed since the last group began. A change that comes alone does not wait.
   */
  async #gather(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    const leftMs = this.#lastBegan + GATHER_MS - performance.now();
    const isWorthIt = this.#lastSize > 1 && this.#perMs * GATHER_MS >= WORTH_GATHERING;
    if (isWorthIt && leftMs >= 1 && this.#waiting.length < this.#maxChanges) await pause(leftMs);
    const now = performance.now();
    this.#lastSize = Math.min(this.#waiting.length, this.#maxChanges);
    this.#perMs = this.#lastSize / Math.max(1, now - this.#lastBegan);
    this.#lastBegan = now;
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#gather();
      const group = this.#waiting.length <= this.#maxChanges ? this.#waiting : this.#waiting.slice(0, this.#maxChanges);
      this.#waiting = group === this.#waiting ? [] : this.#waiting.slice(this.#maxChanges);
      try {
        const outcomes = await this.#write(group.map(({ change }) => change));
        for (const [index, { resolve, reject }] of group.entries()) {
          const outcome = outcomes[index] ?? false;
          if (outcome instanceof Error) reject(outcome);
          else resolve(outcome);
        }
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#writing = undefined;
  }
}

/** Writes changes in their order, durably; says of each whether its checks held, or why it alone failed. */
export type WriteGroup = (changes: readonly Change[]) => Promise<readonly (boolean | Error)[]>;

/** A commit costs as much as some dozens of changes; these milliseconds are few beside a round trip to a device. */
const GATHER_MS = 8;
/** Changes that are to be expected within that time. */
const WORTH_GATHERING = 4;

interface Waiting {
  readonly change: Change;
  readonly resolve: (isCommitted: boolean) => void;
  readonly reject: (error: unknown) => void;
}
