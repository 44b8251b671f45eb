import { timingSafeEqual } from "node:crypto";
import { SHA256_BLOCK_BYTES, sha256Into, viewOf } from "./crypto/sha256.js";
import type { SharedKeys } from "./shared-keys.js";
import type { ClientHelloParts } from "./wire/client-hello.js";

/**
 * The cookies of HelloVerifyRequest: MAC(secret, address, ClientHello parameters) (RFC 6347 §4.2.1), under a secret that
 * changes with time. Nothing is kept per peer, and processes with the same keys take each other's cookies.
 *
 * A cookie is the period of its secret, modulo 256, and 20 bytes of the MAC. It is taken in its period and in the next. The
 * parameters are those that stand before the extensions, all but the cookie itself, so that a first fragment suffices to
 * verify it.
 *
 * The MAC is one hash, where the HMAC that RFC 6347 names takes two:
 *
 * ```
 *          +-------------------------+-------------+-------------------+---------+------------+
 *  SHA-256 | secret, zeros to 1 block | length (4) | address length (2) | address | parameters |
 *          +-------------------------+-------------+-------------------+---------+------------+
 * ```
 *
 * A hash that iterates, with its key in the first block, is a pseudorandom function of messages none of which begins
 * another (Bellare, Canetti and Krawczyk, "Pseudorandom functions revisited: the cascade construction", FOCS 1996): that
 * the length comes first makes them so, and no message can be made longer. Nor would a cookie do to start from: it lacks 12
 * bytes of the hash.
 */
export class CookieKeys {
  readonly #keys: SharedKeys;
  readonly #lifetimeMs: number;
  #period = -1;
  /** What is hashed, room for all but long ones: the key of `#period` stays where it stands, and zeros to the end of its block. */
  readonly #message: Uint8Array = new Uint8Array(MESSAGE_BYTES);
  readonly #views: (Uint8Array | undefined)[] = [];

  constructor(keys: SharedKeys, lifetimeMs: number) {
    this.#keys = keys;
    this.#lifetimeMs = lifetimeMs;
  }

  /** Writes COOKIE_BYTES at `at` of `into`. */
  makeInto(into: Uint8Array, at: number, peerAddress: Uint8Array, hello: ClientHelloParts, now: number): void {
    this.#compute(this.#keys.periodAt(now, this.#lifetimeMs), peerAddress, hello);
    for (let i = 0; i < COOKIE_BYTES; i++) into[at + i] = EXPECTED[i] ?? 0;
  }

  verify(peerAddress: Uint8Array, hello: ClientHelloParts, now: number): boolean {
    const { bytes, cookieAt, cookieBytes } = hello;
    if (cookieBytes !== COOKIE_BYTES) return false;
    for (let i = 0; i < COOKIE_BYTES; i++) FOUND[i] = bytes[cookieAt + i] ?? 0;
    const period = this.#keys.periodAt(now, this.#lifetimeMs);
    const age = (period - (FOUND[0] ?? 0)) & 0xff;
    if (age > 1) return false;
    this.#compute(period - age, peerAddress, hello);
    return timingSafeEqual(FOUND, EXPECTED);
  }

  /** Leaves the cookie in EXPECTED. */
  #compute(
    period: number,
    peerAddress: Uint8Array,
    { bytes, from, cookieAt, cookieBytes, to }: ClientHelloParts,
  ): void {
    const addressBytes = peerAddress.length;
    // Without the cookie, and the byte before it that says how long it is.
    const length = LENGTHS_BYTES + addressBytes + (to - from - cookieBytes - 1);
    const end = SHA256_BLOCK_BYTES + length;
    this.#useKeyOf(period);
    const isLong = end > MESSAGE_BYTES;
    const message = isLong ? new Uint8Array(end) : this.#message;
    if (isLong) message.set(this.#message.subarray(0, SHA256_BLOCK_BYTES));
    let at = SHA256_BLOCK_BYTES;
    message[at++] = length >> 24;
    message[at++] = length >> 16;
    message[at++] = length >> 8;
    message[at++] = length;
    message[at++] = addressBytes >> 8;
    message[at++] = addressBytes;
    for (let i = 0; i < addressBytes; i++) message[at++] = peerAddress[i] ?? 0;
    for (let i = from; i < cookieAt - 1; i++) message[at++] = bytes[i] ?? 0;
    for (let i = cookieAt + cookieBytes; i < to; i++) message[at++] = bytes[i] ?? 0;
    EXPECTED[0] = period;
    sha256Into(isLong ? message : viewOf(message, this.#views, end), EXPECTED, 1);
    if (isLong) message.fill(0, 0, SHA256_BLOCK_BYTES);
  }

  #useKeyOf(period: number): void {
    if (period === this.#period) return;
    this.#message.set(this.#keys.keyOf("cookie, one hash", period));
    this.#period = period;
  }
}

export const COOKIE_BYTES = 21;
const LENGTHS_BYTES = 6;
const MESSAGE_BYTES = 512;
// Scratch space of the process: nothing is kept in it between calls, and no call is re-entered.
const FOUND: Uint8Array = new Uint8Array(COOKIE_BYTES);
const EXPECTED: Uint8Array = new Uint8Array(COOKIE_BYTES);
