import { CcmKey } from "./ccm.js";
import { CIPHER_POOL } from "./cipher-pool.js";
import { GcmKey } from "./gcm.js";
import type { AeadName } from "./suites.js";

/** One direction's AEAD key. */
export type AeadKey = CcmKey | GcmKey;

/** `key`: 16 bytes, kept. */
export function createAeadKey(name: AeadName, key: Uint8Array): AeadKey {
  switch (name) {
    case "AES_128_CCM_8":
      return new CcmKey(key, 8);
    case "AES_128_CCM":
      return new CcmKey(key, 16);
    case "AES_128_GCM":
      return new GcmKey(key);
  }
}

/** Gives back what the key holds in the pool. */
export function releaseAeadKey(key: AeadKey): void {
  if (key instanceof CcmKey) CIPHER_POOL.release(key);
}
