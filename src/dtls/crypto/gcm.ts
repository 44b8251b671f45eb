import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import { cipherKey } from "./cipher-key.js";
import { KEY_BYTES } from "./key-schedule.js";

/** AES-128-GCM (RFC 5288). A context of node:crypto serves one nonce, so each record makes its own. */
export class GcmKey {
  readonly tagBytes = 16;
  readonly #keys: Uint8Array;
  readonly #at: number;

  /** The key: 16 bytes at `at` of `keys`, which is kept, not copied. */
  constructor(keys: Uint8Array, at: number) {
    this.#keys = keys;
    this.#at = at;
  }

  get #key(): Uint8Array | KeyObject {
    return cipherKey(this.#keys.subarray(this.#at, this.#at + KEY_BYTES));
  }

  /** Encrypts `length` bytes at `at` of `bytes` where they stand, and writes the tag after them. */
  seal(nonce: Uint8Array, aad: Uint8Array, bytes: Uint8Array, at: number, length: number): void {
    const cipher = createCipheriv("aes-128-gcm", this.#key, nonce).setAAD(aad);
    bytes.set(cipher.update(bytes.subarray(at, at + length)), at);
    cipher.final();
    bytes.set(cipher.getAuthTag(), at + length);
  }

  /**
   * The plaintext of ciphertext ‖ tag, from `at` to `end`, in `plaintext`, which has its length; undefined when the tag does
   * not verify.
   */
  open(
    nonce: Uint8Array,
    aad: Uint8Array,
    sealed: Uint8Array,
    at = 0,
    end: number = sealed.length,
    plaintext: Uint8Array = new Uint8Array(Math.max(0, end - at - this.tagBytes)),
  ): Uint8Array | undefined {
    const tagAt = end - this.tagBytes;
    if (tagAt < at) return undefined;
    const decipher = createDecipheriv("aes-128-gcm", this.#key, nonce, { authTagLength: this.tagBytes });
    decipher.setAAD(aad).setAuthTag(sealed.subarray(tagAt, end));
    plaintext.set(decipher.update(sealed.subarray(at, tagAt)));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return plaintext;
  }
}
