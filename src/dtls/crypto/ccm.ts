import { type Cipher, createCipheriv, timingSafeEqual } from "node:crypto";
import { CIPHER_POOL, type PooledKey } from "./cipher-pool.js";

/**
 * AES-128-CCM (RFC 3610, NIST SP 800-38C) with a 12-byte nonce, made of two long-lived contexts: a cipher object of
 * node:crypto for each record costs twice as much as the whole of this.
 *
 * The MAC is CBC with a zero IV. The CBC context keeps its last ciphertext block as the IV of what follows, so that block
 * is XORed into the first block of the next message, which cancels it.
 */
export class CcmKey implements PooledKey {
  wasUsed = false;
  slot = -1;
  readonly #key: Uint8Array;
  readonly #tagBytes: 8 | 16;
  #contexts: CcmContexts | undefined;

  /** `key`: 16 bytes, kept, not copied. */
  constructor(key: Uint8Array, tagBytes: 8 | 16) {
    this.#key = key;
    this.#tagBytes = tagBytes;
  }

  get tagBytes(): number {
    return this.#tagBytes;
  }

  /** Writes ciphertext ‖ tag into `into` at `offset`. */
  seal(nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array, into: Uint8Array, offset: number): void {
    const contexts = this.#open();
    const tag = this.#mac(contexts, nonce, aad, plaintext);
    const stream = this.#keyStream(contexts, nonce, plaintext.length);
    for (let i = 0; i < plaintext.length; i++) into[offset + i] = (plaintext[i] ?? 0) ^ (stream[BLOCK + i] ?? 0);
    const tagAt = offset + plaintext.length;
    for (let i = 0; i < this.#tagBytes; i++) into[tagAt + i] = (tag[i] ?? 0) ^ (stream[i] ?? 0);
  }

  /** The plaintext of ciphertext ‖ tag, in fresh bytes; undefined when the tag does not verify. */
  open(nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    const length = sealed.length - this.#tagBytes;
    if (length < 0) return undefined;
    const contexts = this.#open();
    const stream = this.#keyStream(contexts, nonce, length);
    const plaintext = new Uint8Array(length);
    for (let i = 0; i < length; i++) plaintext[i] = (sealed[i] ?? 0) ^ (stream[BLOCK + i] ?? 0);
    const tag = this.#mac(contexts, nonce, aad, plaintext).subarray(0, this.#tagBytes);
    for (let i = 0; i < this.#tagBytes; i++) tag[i] = (tag[i] ?? 0) ^ (stream[i] ?? 0);
    return timingSafeEqual(tag, sealed.subarray(length)) ? plaintext : undefined;
  }

  dropContexts(): void {
    this.#contexts = undefined;
    this.slot = -1;
  }

  #open(): CcmContexts {
    this.wasUsed = true;
    if (this.#contexts !== undefined) return this.#contexts;
    const cbc = createCipheriv("aes-128-cbc", this.#key, ZERO_BLOCK).setAutoPadding(false);
    const ecb = createCipheriv("aes-128-ecb", this.#key, null).setAutoPadding(false);
    this.#contexts = { cbc, ecb, chained: new Uint8Array(BLOCK) };
    CIPHER_POOL.admit(this);
    return this.#contexts;
  }

  /**
   * RFC 3610 §2.2: B_0 = flags ‖ nonce ‖ length, then the length of the additional data and the data, then the message,
   * each padded with zeros to whole blocks.
   */
  #mac(contexts: CcmContexts, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
    const aadBytes = aad.length === 0 ? 0 : padded(2 + aad.length);
    const total = BLOCK + aadBytes + padded(plaintext.length);
    const blocks = total <= MAC_SCRATCH.length ? MAC_SCRATCH.subarray(0, total) : new Uint8Array(total);
    blocks.fill(0);
    blocks[0] = (aad.length === 0 ? 0 : 0x40) | (((this.#tagBytes - 2) / 2) << 3) | (LENGTH_BYTES - 1);
    blocks.set(nonce, 1);
    blocks[13] = plaintext.length >> 16;
    blocks[14] = plaintext.length >> 8;
    blocks[15] = plaintext.length;
    if (aad.length > 0) {
      blocks[BLOCK] = aad.length >> 8;
      blocks[BLOCK + 1] = aad.length;
      blocks.set(aad, BLOCK + 2);
    }
    blocks.set(plaintext, BLOCK + aadBytes);
    for (let i = 0; i < BLOCK; i++) blocks[i] = (blocks[i] ?? 0) ^ (contexts.chained[i] ?? 0);
    const encrypted = contexts.cbc.update(blocks);
    for (let i = 0; i < BLOCK; i++) contexts.chained[i] = encrypted[total - BLOCK + i] ?? 0;
    return encrypted.subarray(total - BLOCK);
  }

  /** RFC 3610 §2.3: S_0 for the tag, then S_1… for the message. */
  #keyStream(contexts: CcmContexts, nonce: Uint8Array, length: number): Uint8Array {
    const total = BLOCK + padded(length);
    const counters = total <= COUNTER_SCRATCH.length ? COUNTER_SCRATCH.subarray(0, total) : new Uint8Array(total);
    for (let block = 0, at = 0; at < total; block++, at += BLOCK) {
      counters[at] = LENGTH_BYTES - 1;
      counters.set(nonce, at + 1);
      counters[at + 13] = block >> 16;
      counters[at + 14] = block >> 8;
      counters[at + 15] = block;
    }
    return contexts.ecb.update(counters);
  }
}

interface CcmContexts {
  readonly cbc: Cipher;
  readonly ecb: Cipher;
  /** The last ciphertext block of `cbc`. */
  readonly chained: Uint8Array;
}

function padded(length: number): number {
  return (length + BLOCK - 1) & ~(BLOCK - 1);
}

const BLOCK = 16;
/** L of RFC 3610: the nonce has 15 − L bytes. */
const LENGTH_BYTES = 3;
const ZERO_BLOCK: Uint8Array = new Uint8Array(BLOCK);
// Scratch space of the process: nothing is kept in it between calls, and no call is re-entered.
const MAC_SCRATCH: Uint8Array = new Uint8Array(2048);
const COUNTER_SCRATCH: Uint8Array = new Uint8Array(2048);
