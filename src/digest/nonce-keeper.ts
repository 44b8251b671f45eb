import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import { isNonceCount } from "./calculation.js";
import { DigestError } from "./errors.js";
import { NonceCountWindow } from "./nonce-count-window.js";

/*
 * A nonce, 40 bytes, big-endian:
 *
 *    0        6         12         18                 24          40
 *   +--------+---------+----------+------------------+-----------+
 *   | epoch  | issued  | serial   | association tag  | MAC       |
 *   | random | ms      | counts up| zero: none       | HMAC, cut |
 *   +--------+---------+----------+------------------+-----------+
 *
 * The MAC is HMAC-SHA-256, cut to 16 bytes, over a label, the 24 bytes before it and the whole association identifier.
 *
 * Invariants:
 *  N1  Issuing keeps no memory but a counter: what is kept per nonce begins with its first authentic response.
 *  N2  At most `maxNonces` nonces have state. To make room the state held longest is evicted.
 *  N3  An evicted nonce raises the watermark to its serial. A nonce without state is valid only above the watermark; so
 *      nothing whose counts were forgotten is ever valid again, and no replay passes.
 *  N4  Serials rise with every issue. So a nonce issued now is above the watermark until `maxNonces` others, begun after
 *      it, have been answered: eviction costs a client one more round trip (stale) and locks nobody out.
 */

/**
 * Issues nonces and judges them, without memory until a response to one was authentic. Time, randomness and key come from
 * the caller; `now` is milliseconds of a clock that does not run backwards within one keeper.
 */
export class NonceKeeper {
  readonly #random: (size: number) => Uint8Array;
  readonly #rotateAfterMs: number;
  /** The key that MACs are made with, then the one before it: nonces live no longer than from one rotation to the next. */
  #keys: readonly [KeyObject, ...KeyObject[]];
  #rotatedAt: number | undefined;
  readonly #lifetimeMs: number;
  readonly #renewAfterMs: number;
  readonly #maxNonces: number;
  readonly #epoch: Uint8Array;
  /** By serial, in the order in which the states began. */
  readonly #states = new Map<number, NonceState>();
  #nextSerial = 1;
  #watermark = 0;

  /** @throws DigestError DIGEST_BAD_OPTION */
  constructor(options: NonceKeeperOptions) {
    const { lifetimeMs, maxNonces } = { ...NONCE_KEEPER_DEFAULTS, ...options };
    const renewAfterMs = options.renewAfterMs ?? lifetimeMs / 2;
    if (options.key.length < MIN_KEY_BYTES)
      throw badOption(`key of ${options.key.length} bytes, need ${MIN_KEY_BYTES}`);
    if (!(lifetimeMs > 0)) throw badOption(`lifetimeMs ${lifetimeMs}`);
    if (!(renewAfterMs >= 0)) throw badOption(`renewAfterMs ${renewAfterMs}`);
    if (!Number.isInteger(maxNonces) || maxNonces < 1) throw badOption(`maxNonces ${maxNonces}`);
    const rotateAfterMs = options.rotateAfterMs ?? Math.max(NONCE_KEEPER_DEFAULTS.rotateAfterMs, lifetimeMs);
    if (!(rotateAfterMs >= lifetimeMs)) throw badOption(`rotateAfterMs ${rotateAfterMs} below lifetimeMs`);
    this.#random = options.random;
    this.#rotateAfterMs = rotateAfterMs;
    this.#keys = [createSecretKey(options.key)];
    this.#lifetimeMs = lifetimeMs;
    this.#renewAfterMs = renewAfterMs;
    this.#maxNonces = maxNonces;
    this.#epoch = options.random(EPOCH_BYTES);
  }

  /** Nonces that have state now. */
  get size(): number {
    return this.#states.size;
  }

  /**
   * A fresh nonce; the caller owns its bytes.
   *
   * @param association - identifies the DTLS association that alone may answer it; left out: anyone may.
   */
  issue(now: number, association?: Uint8Array): Uint8Array {
    const key = this.#currentKey(now);
    const nonce = new Uint8Array(NONCE_BYTES);
    const view = new DataView(nonce.buffer);
    nonce.set(this.#epoch, EPOCH_AT);
    writeUint48(view, ISSUED_AT, Math.floor(now));
    writeUint48(view, SERIAL_AT, this.#nextSerial);
    this.#nextSerial += 1;
    nonce.set(associationTag(key, association), TAG_AT);
    nonce.set(macOf(key, nonce, association), MAC_AT);
    return nonce;
  }

  /**
   * Judges a nonce that a peer sent back; changes nothing that a caller can see.
   *
   * - `valid`: ours, for this association, within its lifetime, and its counts were not forgotten.
   * - `stale`: expired, of another epoch (before a restart), of another association, or forgotten. Whoever sends it learns
   *   nothing: it is told of before any credential is looked at.
   * - `forged`: has our epoch and association but not our MAC, or is no nonce of this form at all.
   */
  judge(nonce: Uint8Array, now: number, association?: Uint8Array): NonceVerdict {
    if (nonce.length !== NONCE_BYTES) return { type: "forged" };
    const isThisEpoch = timingSafeEqual(nonce.subarray(EPOCH_AT, ISSUED_AT), this.#epoch);
    let isOurs = false;
    let isThisAssociation = false;
    for (const key of this.#keys) {
      isOurs = timingSafeEqual(nonce.subarray(MAC_AT), macOf(key, nonce, association)) || isOurs;
      isThisAssociation =
        timingSafeEqual(nonce.subarray(TAG_AT, MAC_AT), associationTag(key, association)) || isThisAssociation;
    }
    if (!isThisEpoch || !isThisAssociation) return { type: "stale", cause: isThisEpoch ? "association" : "epoch" };
    if (!isOurs) return { type: "forged" };
    const { issuedMs, serial } = fieldsOf(nonce);
    const ageMs = Math.floor(now) - issuedMs;
    if (ageMs < 0 || ageMs > this.#lifetimeMs) return { type: "stale", cause: "expired" };
    if (serial <= this.#watermark && !this.#states.has(serial)) return { type: "stale", cause: "forgotten" };
    return { type: "valid", needsRenewal: ageMs >= this.#renewAfterMs };
  }

  /**
   * Counts an authentic response. Call it only for a nonce judged `valid` at the same `now` and a response that matched;
   * state for the nonce begins here.
   */
  accept(nonce: Uint8Array, nonceCount: number, now: number): "fresh" | "replayed" {
    if (!isNonceCount(nonceCount)) return "replayed";
    const { issuedMs, serial } = fieldsOf(nonce);
    let state = this.#states.get(serial);
    if (state === undefined) {
      this.#makeRoom(now);
      state = { issuedMs, window: new NonceCountWindow() };
      this.#states.set(serial, state);
    }
    return state.window.accept(nonceCount) ? "fresh" : "replayed";
  }

  /** Drops expired states from the front (time refuses them, no watermark needed), then evicts while there is no room. */
  #makeRoom(now: number): void {
    for (const [serial, state] of this.#states) {
      const isExpired = now - state.issuedMs > this.#lifetimeMs;
      if (!isExpired && this.#states.size < this.#maxNonces) return;
      this.#states.delete(serial);
      // Also for an expired one: then invariant N3 holds without a word about clocks.
      this.#watermark = Math.max(this.#watermark, serial);
    }
  }

  #currentKey(now: number): KeyObject {
    this.#rotatedAt ??= now;
    const [current] = this.#keys;
    if (now - this.#rotatedAt < this.#rotateAfterMs) return current;
    this.#rotatedAt = now;
    const fresh = createSecretKey(this.#random(MIN_KEY_BYTES));
    this.#keys = [fresh, current];
    return fresh;
  }
}

/** What `judge` says. */
export type NonceVerdict =
  | { readonly type: "valid"; /** Old enough that the client should get a nextnonce. */ readonly needsRenewal: boolean }
  | { readonly type: "stale"; readonly cause: "expired" | "epoch" | "association" | "forgotten" }
  | { readonly type: "forged" };

export interface NonceKeeperOptions {
  /** The first MAC key, at least 32 bytes; copied. It may outlive a restart or not: the epoch tells them apart. */
  readonly key: Uint8Array;
  /** A cryptographic source, for the epoch and for keys. */
  readonly random: (size: number) => Uint8Array;
  /** How long a nonce may be answered, ms. Too short: a round trip more for many requests; too long: a stolen Authorization
   * that never arrived stays good for as long. Default 300 000. */
  readonly lifetimeMs?: number;
  /** Age from which a client gets a nextnonce with its answer, ms. Default: half the lifetime. */
  readonly renewAfterMs?: number;
  /** Age at which a key makes place for a fresh one, ms; at least the lifetime of a nonce. Default a day. */
  readonly rotateAfterMs?: number;
  /** Nonces with state, at about 150 bytes each. Too small: busy clients answer stale again and again. Default 65 536. */
  readonly maxNonces?: number;
}

export const NONCE_KEEPER_DEFAULTS = { lifetimeMs: 300_000, maxNonces: 65_536, rotateAfterMs: 86_400_000 } as const;

function macOf(key: KeyObject, nonce: Uint8Array, association: Uint8Array | undefined): Uint8Array {
  const hmac = createHmac("sha256", key).update(MAC_LABEL).update(nonce.subarray(0, MAC_AT));
  return hmac
    .update(association ?? NO_BYTES)
    .digest()
    .subarray(0, MAC_BYTES);
}

function associationTag(key: KeyObject, association: Uint8Array | undefined): Uint8Array {
  if (association === undefined) return NO_ASSOCIATION;
  return createHmac("sha256", key).update(TAG_LABEL).update(association).digest().subarray(0, TAG_BYTES);
}

interface NonceState {
  readonly issuedMs: number;
  readonly window: NonceCountWindow;
}

function fieldsOf(nonce: Uint8Array): { readonly issuedMs: number; readonly serial: number } {
  const view = new DataView(nonce.buffer, nonce.byteOffset, nonce.byteLength);
  return { issuedMs: readUint48(view, ISSUED_AT), serial: readUint48(view, SERIAL_AT) };
}

function writeUint48(view: DataView, at: number, value: number): void {
  view.setUint16(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 2, value % 2 ** 32);
}

function readUint48(view: DataView, at: number): number {
  return view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2);
}

function badOption(detail: string): DigestError {
  return new DigestError("DIGEST_BAD_OPTION", `nonce keeper: ${detail}`);
}

const EPOCH_AT = 0;
const EPOCH_BYTES = 6;
const ISSUED_AT = EPOCH_AT + EPOCH_BYTES;
const SERIAL_AT = ISSUED_AT + 6;
const TAG_AT = SERIAL_AT + 6;
const TAG_BYTES = 6;
const MAC_AT = TAG_AT + TAG_BYTES;
const MAC_BYTES = 16;
/** Length of every nonce. */
export const NONCE_BYTES: number = MAC_AT + MAC_BYTES;

const MIN_KEY_BYTES = 32;
const NO_BYTES = new Uint8Array();
const NO_ASSOCIATION = new Uint8Array(TAG_BYTES);
const MAC_LABEL = "nonce";
const TAG_LABEL = "association";
