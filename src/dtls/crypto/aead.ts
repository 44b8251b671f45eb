import { CcmKey } from "./ccm.js";
import { CIPHER_POOL } from "./cipher-pool.js";
import { GcmKey } from "./gcm.js";
import type { AeadName } from "./suites.js";

/** One direction's AEAD key. */
export type AeadKey = CcmKey | GcmKey;

/** The key: 16 bytes at `at` of `keys`, which is kept. */
export function createAeadKey(name: AeadName, keys: Uint8Array, at: number): AeadKey {
  switch (name) {
    case "AES_128_CCM_8":
      return new CcmKey(keys, at, 8);
    case "AES_128_CCM":
      return new CcmKey(keys, at, 16);
    case "AES_128_GCM":
      return new GcmKey(keys, at);
  }
}

/** Gives back what the key holds in the pool. */
export function releaseAeadKey(key: AeadKey): void {
  if (key instanceof CcmKey) CIPHER_POOL.release(key);
}
