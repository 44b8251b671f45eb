import { createCipheriv, createDecipheriv } from "node:crypto";
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

  get #key(): Uint8Array {
    return this.#keys.subarray(this.#at, this.#at + KEY_BYTES);
  }

  /** Writes ciphertext ‖ tag into `into` at `offset`. */
  seal(nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array, into: Uint8Array, offset: number): void {
    const cipher = createCipheriv("aes-128-gcm", this.#key, nonce).setAAD(aad);
    into.set(cipher.update(plaintext), offset);
    cipher.final();
    into.set(cipher.getAuthTag(), offset + plaintext.length);
  }

  /** The plaintext of the ciphertext ‖ tag that stands from `at` on, in fresh bytes; undefined when the tag does not verify. */
  open(nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array, at = 0): Uint8Array | undefined {
    const tagAt = sealed.length - this.tagBytes;
    if (tagAt < at) return undefined;
    const decipher = createDecipheriv("aes-128-gcm", this.#key, nonce, { authTagLength: this.tagBytes });
    decipher.setAAD(aad).setAuthTag(sealed.subarray(tagAt));
    const plaintext = Uint8Array.from(decipher.update(sealed.subarray(at, tagAt)));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return plaintext;
  }
}
