import { randomBytes } from "node:crypto";

/** Random bytes by the pool: one call to the generator for many tokens. */
export function pooledRandom(): (size: number) => Uint8Array {
  let pool: Uint8Array = new Uint8Array(0);
  let used = 0;
  return (size) => {
    if (used + size > pool.length) {
      pool = randomBytes(RANDOM_POOL_BYTES);
      used = 0;
    }
    used += size;
    return pool.slice(used - size, used);
  };
}

const RANDOM_POOL_BYTES = 4096;
