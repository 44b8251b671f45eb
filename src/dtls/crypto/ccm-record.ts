import { createCipheriv, createDecipheriv } from "node:crypto";
import { cipherKey } from "./cipher-key.js";

/**
 * AES-128-CCM of one record by a cipher object of its own: for a key that has no contexts and will not be asked for another
 * record soon, half of what making and ending its contexts costs.
 */

/** Encrypts `length` bytes at `at` of `bytes` where they stand, and writes the tag after them. */
export function sealAlone(
  key: Uint8Array,
  authTagLength: number,
  nonce: Uint8Array,
  aad: Uint8Array,
  bytes: Uint8Array,
  at: number,
  length: number,
): void {
  const cipher = createCipheriv("aes-128-ccm", cipherKey(key), nonce, { authTagLength });
  cipher.setAAD(aad, { plaintextLength: length });
  bytes.set(cipher.update(bytes.subarray(at, at + length)), at);
  cipher.final();
  bytes.set(cipher.getAuthTag(), at + length);
}

/** Whether the ciphertext from `at`, with its tag behind it, verifies; its text is in `plaintext` then, which has its length. */
export function openAlone(
  key: Uint8Array,
  authTagLength: number,
  nonce: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
  at: number,
  plaintext: Uint8Array,
): boolean {
  const tagAt = at + plaintext.length;
  const decipher = createDecipheriv("aes-128-ccm", cipherKey(key), nonce, { authTagLength });
  decipher.setAuthTag(sealed.subarray(tagAt, tagAt + authTagLength));
  decipher.setAAD(aad, { plaintextLength: plaintext.length });
  const text = decipher.update(sealed.subarray(at, tagAt));
  try {
    decipher.final();
  } catch {
    return false;
  }
  plaintext.set(text);
  return true;
}
