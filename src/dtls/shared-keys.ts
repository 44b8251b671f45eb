import { hkdfSync } from "node:crypto";
import { DtlsError } from "./errors.js";

/**
 * Keys of cookies and session tickets that change with time, derived from one secret: all processes that hold the secret,
 * and agree on the time, agree on the keys without speaking to each other.
 *
 * key = HKDF-SHA-256(secret, salt: empty, info: "dpe-coap" ‖ purpose ‖ period), where period = ⌊Unix time / length⌋.
 */
export class SharedKeys {
  readonly #secret: Uint8Array;
  readonly #timeOriginMs: number;
  /** By purpose: the key used last, and the one before it. */
  readonly #recent = new Map<string, PeriodKey[]>();

  /**
   * `secret`: at least 32 random bytes, kept. `timeOriginMs`: Unix time in ms when the clock that `now` is of stood at 0.
   * @throws DtlsError DTLS_BAD_OPTION
   */
  constructor(secret: Uint8Array, timeOriginMs = 0) {
    if (secret.length < LEAST_SECRET_BYTES) throw new DtlsError("DTLS_BAD_OPTION", "sharedKeys: 32 bytes at least");
    this.#secret = secret;
    this.#timeOriginMs = timeOriginMs;
  }

  /** Unix time in ms. */
  unixTimeMs(now: number): number {
    return this.#timeOriginMs + now;
  }

  /** Which period it is; each is `lengthMs` long. */
  periodAt(now: number, lengthMs: number): number {
    return Math.floor(this.unixTimeMs(now) / lengthMs);
  }

  /** 32 bytes, not to be changed. */
  keyOf(purpose: string, period: number): Uint8Array {
    let recent = this.#recent.get(purpose);
    if (recent === undefined) {
      recent = [];
      this.#recent.set(purpose, recent);
    }
    const known = recent.find((one) => one.period === period);
    if (known !== undefined) return known.key;
    const info = `dpe-coap ${purpose} ${String(period)}`;
    const key = new Uint8Array(hkdfSync("sha256", this.#secret, EMPTY, info, KEY_BYTES));
    recent.unshift({ period, key });
    recent.length = Math.min(recent.length, 2);
    return key;
  }
}

interface PeriodKey {
  readonly period: number;
  readonly key: Uint8Array;
}

const LEAST_SECRET_BYTES = 32;
const KEY_BYTES = 32;
const EMPTY = new Uint8Array(0);
