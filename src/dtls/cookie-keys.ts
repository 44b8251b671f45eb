import { timingSafeEqual } from "node:crypto";
import { HmacSha256 } from "./crypto/sha256.js";
import type { ClientHelloParameters } from "./wire/client-hello.js";
import { concat, uint16, uint16List, vector16, vector8 } from "./wire/writer.js";

/**
 * The cookies of HelloVerifyRequest: HMAC(secret, address, ClientHello parameters) (RFC 6347 §4.2.1), under a secret that
 * is renewed. Nothing is kept per peer.
 *
 * A cookie is the generation of its secret, modulo 256, and 20 bytes of HMAC-SHA-256. It is taken while its secret is the
 * current one or the one before. The parameters are those that stand before the extensions, all but the cookie itself,
 * so that a first fragment suffices to verify it.
 */
export class CookieKeys {
  readonly #random: (size: number) => Uint8Array;
  readonly #lifetimeMs: number;
  #generation = 0;
  #current: HmacSha256;
  #previous: HmacSha256 | undefined;
  #renewAt: number | undefined;

  constructor(random: (size: number) => Uint8Array, lifetimeMs: number) {
    this.#random = random;
    this.#lifetimeMs = lifetimeMs;
    this.#current = new HmacSha256(random(SECRET_BYTES));
  }

  make(peerAddress: Uint8Array, parameters: ClientHelloParameters, now: number): Uint8Array {
    this.#renew(now);
    return cookieOf(this.#current, this.#generation, peerAddress, parameters);
  }

  verify(peerAddress: Uint8Array, parameters: ClientHelloParameters, now: number): boolean {
    this.#renew(now);
    const { cookie } = parameters;
    if (cookie.length !== COOKIE_BYTES) return false;
    const age = (this.#generation - (cookie[0] ?? 0)) & 0xff;
    const secret = age === 0 ? this.#current : age === 1 ? this.#previous : undefined;
    if (secret === undefined) return false;
    return timingSafeEqual(cookie, cookieOf(secret, this.#generation - age, peerAddress, parameters));
  }

  /** On a grid of lifetimes, however long nothing came. */
  #renew(now: number): void {
    this.#renewAt ??= now + this.#lifetimeMs;
    if (now < this.#renewAt) return;
    const steps = Math.floor((now - this.#renewAt) / this.#lifetimeMs) + 1;
    this.#previous = steps === 1 ? this.#current : undefined;
    this.#current = new HmacSha256(this.#random(SECRET_BYTES));
    this.#generation += steps;
    this.#renewAt += steps * this.#lifetimeMs;
  }
}

function cookieOf(
  secret: HmacSha256,
  generation: number,
  peerAddress: Uint8Array,
  parameters: ClientHelloParameters,
): Uint8Array {
  const { version, random, sessionId, cipherSuites, compressionMethods } = parameters;
  const mac = secret.mac(
    vector16(peerAddress),
    uint16(version),
    random,
    vector8(sessionId),
    vector16(uint16List(cipherSuites)),
    vector8(Uint8Array.from(compressionMethods)),
  );
  return concat(Uint8Array.of(generation), mac.subarray(0, COOKIE_BYTES - 1));
}

export const COOKIE_BYTES = 21;
const SECRET_BYTES = 32;
