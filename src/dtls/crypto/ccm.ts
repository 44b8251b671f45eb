import { type Cipher, createCipheriv, timingSafeEqual } from "node:crypto";
import { cipherKey } from "./cipher-key.js";
import { openAlone, sealAlone } from "./ccm-record.js";
import { CIPHER_POOL, endContext, NEVER_PLACED, type PooledKey } from "./cipher-pool.js";
import { KeyStream } from "./key-stream.js";

/**
 * AES-128-CCM (RFC 3610, NIST SP 800-38C) with a 12-byte nonce, made of two long-lived contexts: a cipher object of
 * node:crypto for each record costs five times as much as the whole of this.
 *
 * The MAC is CBC with a zero IV. The CBC context keeps its last ciphertext block as the IV of what follows, so that block
 * is XORed into the first block of the next message, which cancels it.
 */
export class CcmKey implements PooledKey {
  wasUsed = false;
  slot: number = NEVER_PLACED;
  missedAt = 0;
  readonly #keys: Uint8Array;
  readonly #at: number;
  readonly #tagBytes: 8 | 16;
  #contexts: CcmContexts | undefined;

  /** The key: 16 bytes at `at` of `keys`, which is kept, not copied. */
  constructor(keys: Uint8Array, at: number, tagBytes: 8 | 16) {
    this.#keys = keys;
    this.#at = at;
    this.#tagBytes = tagBytes;
  }

  get tagBytes(): number {
    return this.#tagBytes;
  }

  /** Encrypts `length` bytes at `at` of `bytes` where they stand, and writes the tag after them. */
  seal(nonce: Uint8Array, aad: Uint8Array, bytes: Uint8Array, at: number, length: number): void {
    const contexts = this.#contextsOf();
    if (contexts === undefined) {
      sealAlone(this.#copyOfKey(), this.#tagBytes, nonce, aad, bytes, at, length);
      KEY.fill(0);
      return;
    }
    const { chained, stream } = contexts;
    this.#mac(contexts, nonce, aad, bytes, at, length);
    const keys = stream.seek(nonce, blocksOf(length) + 1);
    const tagStream = stream.at;
    const textStream = tagStream + BLOCK;
    for (let i = 0; i < length; i++) bytes[at + i] = (bytes[at + i] ?? 0) ^ (keys[textStream + i] ?? 0);
    const tagAt = at + length;
    for (let i = 0; i < this.#tagBytes; i++) bytes[tagAt + i] = (chained[i] ?? 0) ^ (keys[tagStream + i] ?? 0);
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
    plaintext: Uint8Array = new Uint8Array(Math.max(0, end - at - this.#tagBytes)),
  ): Uint8Array | undefined {
    const length = end - at - this.#tagBytes;
    if (length < 0) return undefined;
    const contexts = this.#contextsOf();
    if (contexts === undefined) {
      const isWhole = openAlone(this.#copyOfKey(), this.#tagBytes, nonce, aad, sealed, at, plaintext);
      KEY.fill(0);
      return isWhole ? plaintext : undefined;
    }
    const { chained, stream } = contexts;
    const bytes = stream.seek(nonce, blocksOf(length) + 1);
    const tagStream = stream.at;
    const textStream = tagStream + BLOCK;
    for (let i = 0; i < length; i++) plaintext[i] = (sealed[at + i] ?? 0) ^ (bytes[textStream + i] ?? 0);
    this.#mac(contexts, nonce, aad, plaintext, 0, length);
    const { expected, found } = this.#tagBytes === 8 ? TAGS_8 : TAGS_16;
    const tagAt = at + length;
    for (let i = 0; i < this.#tagBytes; i++) {
      expected[i] = (chained[i] ?? 0) ^ (bytes[tagStream + i] ?? 0);
      found[i] = sealed[tagAt + i] ?? 0;
    }
    return timingSafeEqual(expected, found) ? plaintext : undefined;
  }

  dropContexts(): void {
    const contexts = this.#contexts;
    this.#contexts = undefined;
    this.slot = -1;
    if (contexts === undefined) return;
    endContext(contexts.cbc);
    contexts.chained.fill(0);
    contexts.stream.end();
  }

  /** Undefined: the record is to be done alone. */
  #contextsOf(): CcmContexts | undefined {
    this.wasUsed = true;
    if (this.#contexts !== undefined) return this.#contexts;
    if (!CIPHER_POOL.hasPlaceFor(this)) return undefined;
    const key = cipherKey(this.#copyOfKey());
    // Padding, which is of the last block, has no effect: what comes at their end is thrown away.
    const cbc = createCipheriv("aes-128-cbc", key, ZERO_BLOCK);
    const ecb = createCipheriv("aes-128-ecb", key, null);
    KEY.fill(0);
    const { chained, ahead } = CIPHER_POOL.admit(this);
    this.#contexts = { cbc, stream: new KeyStream(ecb, ahead), chained };
    return this.#contexts;
  }

  /** In a scratch, to be wiped: native code that reads an array in V8's heap moves it out of there, for good. */
  #copyOfKey(): Uint8Array {
    for (let i = 0; i < BLOCK; i++) KEY[i] = this.#keys[this.#at + i] ?? 0;
    return KEY;
  }

  /**
   * RFC 3610 §2.2: B_0 = flags ‖ nonce ‖ length, then the length of the additional data and the data, then the message,
   * each padded with zeros to whole blocks. The MAC is left in `chained`, which is what it is for the next call.
   */
  #mac(
    contexts: CcmContexts,
    nonce: Uint8Array,
    aad: Uint8Array,
    bytes: Uint8Array,
    from: number,
    length: number,
  ): void {
    const { cbc, chained } = contexts;
    const aadBlocks = aad.length === 0 ? 0 : blocksOf(2 + aad.length);
    const count = 1 + aadBlocks + blocksOf(length);
    const blocks = MAC_SCRATCH[count] ?? new Uint8Array(count * BLOCK);
    blocks[0] = (aad.length === 0 ? 0 : 0x40) | (((this.#tagBytes - 2) / 2) << 3) | (LENGTH_BYTES - 1);
    for (let i = 0; i < NONCE_BYTES; i++) blocks[1 + i] = nonce[i] ?? 0;
    blocks[13] = length >> 16;
    blocks[14] = length >> 8;
    blocks[15] = length;
    let at = BLOCK;
    if (aad.length > 0) {
      blocks[BLOCK] = aad.length >> 8;
      blocks[BLOCK + 1] = aad.length;
      at = writePadded(aad, 0, aad.length, blocks, BLOCK + 2);
    }
    writePadded(bytes, from, length, blocks, at);
    for (let i = 0; i < BLOCK; i++) blocks[i] = (blocks[i] ?? 0) ^ (chained[i] ?? 0);
    const encrypted = cbc.update(blocks);
    const last = (count - 1) * BLOCK;
    for (let i = 0; i < BLOCK; i++) chained[i] = encrypted[last + i] ?? 0;
  }
}

interface CcmContexts {
  readonly cbc: Cipher;
  readonly stream: KeyStream;
  /** The last ciphertext block of `cbc`, which is the last MAC. */
  readonly chained: Uint8Array;
}

function blocksOf(length: number): number {
  return (length + BLOCK - 1) >> 4;
}

/** With zeros to the end of its block; returns where that is. By a loop, which is faster than `set` for short messages. */
function writePadded(bytes: Uint8Array, from: number, length: number, into: Uint8Array, offset: number): number {
  let at = offset;
  if (length > LOOP_COPY_BYTES) {
    into.set(bytes.subarray(from, from + length), at);
    at += length;
  } else {
    for (let i = 0; i < length; i++) into[at++] = bytes[from + i] ?? 0;
  }
  while ((at & (BLOCK - 1)) !== 0) into[at++] = 0;
  return at;
}

const BLOCK = 16;
const NONCE_BYTES = 12;
/** L of RFC 3610: the nonce has 15 − L bytes. */
const LENGTH_BYTES = 3;
const LOOP_COPY_BYTES = 96;
const ZERO_BLOCK: Uint8Array = new Uint8Array(BLOCK);
// Scratch space of the process: nothing is kept in it between calls, and no call is re-entered. The MAC's, by the number
// of blocks: a view for each record would cost as much as its other work in JavaScript.
const MAC_SCRATCH: readonly Uint8Array[] = scratchViews(128);
const KEY: Uint8Array = new Uint8Array(BLOCK);
const TAGS_8 = { expected: new Uint8Array(8), found: new Uint8Array(8) } as const;
const TAGS_16 = { expected: new Uint8Array(16), found: new Uint8Array(16) } as const;

function scratchViews(mostBlocks: number): readonly Uint8Array[] {
  const whole = new Uint8Array(mostBlocks * BLOCK);
  return Array.from({ length: mostBlocks + 1 }, (_, blocks) => whole.subarray(0, blocks * BLOCK));
}
