import type { Backend, Change } from "./backend.js";
import { StoreError } from "./errors.js";

/**
 * Reads, decides and commits, again and again until nothing changed in between. `plan` gives no change where there is
 * nothing to do; what it throws ends the attempt with nothing changed.
 *
 * @throws StoreError STORE_CONFLICT when others were faster {@link ATTEMPTS} times; STORE_UNAVAILABLE.
 */
export async function commitUntil<Result>(
  backend: Backend,
  plan: () => Promise<{ readonly change: Change | undefined; readonly result: Result }>,
): Promise<Result> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { change, result } = await plan();
    if (change === undefined || (await backend.commit(change))) return result;
  }
  throw new StoreError("STORE_CONFLICT", "the store was changed by others all the time; try again");
}

const ATTEMPTS = 100;
