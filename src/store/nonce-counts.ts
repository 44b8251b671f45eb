import { timeKey } from "./time-key.js";
import type { Backend } from "./backend.js";
import { decodeRow, encodeRow } from "./codec.js";
import { commitUntil } from "./commit-until.js";

/**
 * Which nonce counts of which nonce were seen, by all servers of one store and over their restarts. `nonce`: key the nonce
 * in hexadecimal; `deadline`: partition `nonce`, key time and nonce.
 *
 * Invariants:
 * N1. A count of a nonce is fresh once, whichever servers it reaches and whenever they restart.
 * N2. The window is that of src/digest: the last 64 below the highest; what lies below it is refused.
 * N3. A nonce is kept until it has expired, and not longer than the next sweep.
 */
export class NonceCounts {
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Counts an authentic response to a nonce that is valid until `expiresAt`, ms since 1970. */
  accept(nonce: Uint8Array, count: number, expiresAt: number): Promise<"fresh" | "replayed"> {
    const key = Buffer.from(nonce).toString("hex");
    const place = { space: "nonce", partition: "", key } as const;
    return commitUntil(this.#backend, async () => {
      const [bytes] = await this.#backend.get([place]);
      const row = bytes === undefined ? { highest: 0, seen: "0" } : decodeRow<NonceRow>(bytes);
      const next = counted(row, count);
      if (next === undefined) return { change: undefined, result: "replayed" };
      return {
        change: {
          checks: [{ ...place, value: bytes }],
          sets: [
            { ...place, value: encodeRow(next) },
            { space: "deadline", partition: "nonce", key: timeKey(expiresAt) + key, value: new Uint8Array(0) },
          ],
        },
        result: "fresh",
      };
    });
  }

  async sweep(now: number): Promise<void> {
    const due = await this.#backend.range("deadline", "nonce", { before: timeKey(now), limit: SWEEP_PAGE });
    if (due.length === 0) return;
    const deletes = due.flatMap(({ key }) => [
      { space: "deadline", partition: "nonce", key } as const,
      { space: "nonce", partition: "", key: key.slice(timeKey(0).length) } as const,
    ]);
    await this.#backend.commit({ deletes });
  }
}

interface NonceRow {
  readonly highest: number;
  /** Bit n, in hexadecimal: the count `highest - n` was seen. */
  readonly seen: string;
}

function counted({ highest, seen }: NonceRow, count: number): NonceRow | undefined {
  if (!Number.isInteger(count) || count < 1 || count > 0xffff_ffff) return undefined;
  const bits = BigInt(`0x${seen}`);
  const ahead = count - highest;
  if (ahead > 0) {
    const moved = ahead >= WINDOW ? 0n : BigInt.asUintN(WINDOW, bits << BigInt(ahead));
    return { highest: count, seen: (moved | 1n).toString(16) };
  }
  if (-ahead >= WINDOW) return undefined;
  const bit = 1n << BigInt(-ahead);
  return (bits & bit) === 0n ? { highest, seen: (bits | bit).toString(16) } : undefined;
}

const WINDOW = 64;
const SWEEP_PAGE = 1000;
