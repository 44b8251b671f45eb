import { timingSafeEqual } from "node:crypto";
import { HmacSha256 } from "./crypto/sha256.js";
import type { SharedKeys } from "./shared-keys.js";
import type { ClientHelloParts } from "./wire/client-hello.js";

/**
 * The cookies of HelloVerifyRequest: HMAC(secret, address, ClientHello parameters) (RFC 6347 §4.2.1), under a secret that
 * changes with time. Nothing is kept per peer, and processes with the same keys take each other's cookies.
 *
 * A cookie is the period of its secret, modulo 256, and 20 bytes of HMAC-SHA-256. It is taken in its period and in the
 * next. The parameters are those that stand before the extensions, all but the cookie itself, so that a first fragment
 * suffices to verify it.
 */
export class CookieKeys {
  readonly #keys: SharedKeys;
  readonly #lifetimeMs: number;
  /** Of the periods used of late. */
  #recent: { readonly period: number; readonly hmac: HmacSha256 }[] = [];

  constructor(keys: SharedKeys, lifetimeMs: number) {
    this.#keys = keys;
    this.#lifetimeMs = lifetimeMs;
  }

  make(peerAddress: Uint8Array, hello: ClientHelloParts, now: number): Uint8Array {
    return this.#cookieOf(this.#keys.periodAt(now, this.#lifetimeMs), peerAddress, hello);
  }

  verify(peerAddress: Uint8Array, hello: ClientHelloParts, now: number): boolean {
    const { cookie } = hello;
    if (cookie.length !== COOKIE_BYTES) return false;
    const period = this.#keys.periodAt(now, this.#lifetimeMs);
    const age = (period - (cookie[0] ?? 0)) & 0xff;
    return age <= 1 && timingSafeEqual(cookie, this.#cookieOf(period - age, peerAddress, hello));
  }

  #cookieOf(period: number, peerAddress: Uint8Array, hello: ClientHelloParts): Uint8Array {
    const { beforeCookie, afterCookie } = hello;
    ADDRESS_BYTES[0] = peerAddress.length >> 8;
    ADDRESS_BYTES[1] = peerAddress.length;
    const cookie = new Uint8Array(COOKIE_BYTES);
    cookie[0] = period;
    this.#hmacOf(period).macInto(cookie, 1, ADDRESS_BYTES, peerAddress, beforeCookie, afterCookie);
    return cookie;
  }

  #hmacOf(period: number): HmacSha256 {
    const known = this.#recent.find((one) => one.period === period);
    if (known !== undefined) return known.hmac;
    const hmac = new HmacSha256(this.#keys.keyOf("cookie", period));
    this.#recent = [{ period, hmac }, ...this.#recent.slice(0, 1)];
    return hmac;
  }
}

export const COOKIE_BYTES = 21;
/** Scratch space: the address's length stands before it, so that it ends where it does. */
const ADDRESS_BYTES: Uint8Array = new Uint8Array(2);
