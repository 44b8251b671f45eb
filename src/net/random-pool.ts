import { randomBytes } from "node:crypto";

/** Random bytes by the pool: one call to the generator for many tokens. It takes 5 µs, a copy 0.1. */
export function pooledRandom(): (size: number) => Uint8Array {
  let pool: Uint8Array = new Uint8Array(0);
  let used = 0;
  return (size) => {
    if (used + size > pool.length) {
      pool = randomBytes(RANDOM_POOL_BYTES);
      used = 0;
    }
    used += size;
    const taken = new Uint8Array(pool.subarray(used - size, used));
    // What was given out may be a secret, and is not to be found here.
    pool.fill(0, used - size, used);
    return taken;
  };
}

const RANDOM_POOL_BYTES = 4096;
