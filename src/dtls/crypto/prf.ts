import { secretSha256Into, SHA256_BLOCK_BYTES, SHA256_BYTES, sha256Into, viewOf, writePads } from "./sha256.js";

/**
 * PRF(secret, label, seed) = P_SHA256(secret, label ‖ seed), the first `length` bytes (RFC 5246 §5). `seedEnd`: follows the
 * seed. `isWiped`: whether what the output passes through is wiped, which costs 0.7 µs for each 32 bytes.
 */
export function prf(
  secret: Uint8Array,
  label: string,
  seed: Uint8Array,
  length: number,
  seedEnd: Uint8Array = NONE,
  isWiped = true,
): Uint8Array {
  const output = new Uint8Array(length);
  expand(secret, label, seed, seedEnd, output, isWiped);
  return output;
}

/** The same where the output goes to the peer, and what it passes through need not be wiped: fills `output`. */
export function publicPrfInto(secret: Uint8Array, label: string, seed: Uint8Array, output: Uint8Array): void {
  expand(secret, label, seed, NONE, output, false);
}

/**
 * P_SHA256(secret, s) = HMAC(secret, A(1) ‖ s) ‖ HMAC(secret, A(2) ‖ s) ‖ …, where A(0) = s, A(i) = HMAC(secret, A(i − 1)).
 * A handshake has four of them, and an array costs as much as a hash: so all is done in one.
 *
 * ```
 *  0              32      64     96
 *  +---------------+------+------+--------------+
 *  |     K ⊕ ipad         | A(i) | label ‖ seed |   from A(1) on
 *  +---------------+------+------+--------------+
 *                  |  K ⊕ ipad   | label ‖ seed |   for A(1)
 *                  +-------------+--------------+
 * ```
 */
function expand(
  secret: Uint8Array,
  label: string,
  seed: Uint8Array,
  seedEnd: Uint8Array,
  output: Uint8Array,
  isWiped: boolean,
): void {
  const { length } = output;
  const seedEndAt = SEED_AT + label.length + seed.length;
  const end = seedEndAt + seedEnd.length;
  const isLong = end > SCRATCH.length;
  const message = isLong ? new Uint8Array(end) : SCRATCH;
  const whole = isLong ? message : viewOf(SCRATCH, WHOLE_VIEWS, end);
  writePads(secret, message, FIRST_PAD_AT, OUTER);
  for (let i = 0; i < label.length; i++) message[SEED_AT + i] = label.charCodeAt(i);
  message.set(seed, SEED_AT + label.length);
  if (seedEnd.length > 0) message.set(seedEnd, seedEndAt);
  const first = isLong ? message.subarray(FIRST_PAD_AT) : viewOf(SCRATCH_FIRST, FIRST_VIEWS, end - FIRST_PAD_AT);
  sha256Into(first, OUTER, SHA256_BLOCK_BYTES);
  message.copyWithin(0, FIRST_PAD_AT, SEED_AT);
  sha256Into(OUTER, message, A_AT);
  for (let offset = 0; offset < length; offset += SHA256_BYTES) {
    if (offset > 0) {
      sha256Into(isLong ? message.subarray(0, SEED_AT) : SCRATCH_A, OUTER, SHA256_BLOCK_BYTES);
      sha256Into(OUTER, message, A_AT);
    }
    sha256Into(whole, OUTER, SHA256_BLOCK_BYTES);
    if (isWiped) secretSha256Into(OUTER, output, offset);
    else sha256Into(OUTER, output, offset);
  }
  message.fill(0, 0, SEED_AT);
  OUTER.fill(0);
}

const NONE: Uint8Array = new Uint8Array(0);
const A_AT = SHA256_BLOCK_BYTES;
const SEED_AT: number = SHA256_BLOCK_BYTES + SHA256_BYTES;
const FIRST_PAD_AT: number = SEED_AT - SHA256_BLOCK_BYTES;
// Scratch space of the process: nothing is kept in it between calls, and no call is re-entered.
const SCRATCH: Uint8Array = new Uint8Array(256);
const SCRATCH_FIRST: Uint8Array = SCRATCH.subarray(FIRST_PAD_AT);
const SCRATCH_A: Uint8Array = SCRATCH.subarray(0, SEED_AT);
const WHOLE_VIEWS: (Uint8Array | undefined)[] = Array.from({ length: SCRATCH.length + 1 }, () => undefined);
const FIRST_VIEWS: (Uint8Array | undefined)[] = Array.from({ length: SCRATCH.length + 1 }, () => undefined);
const OUTER: Uint8Array = new Uint8Array(SHA256_BLOCK_BYTES + SHA256_BYTES);
