import { createCipheriv, createDecipheriv } from "node:crypto";
import { cipherKey } from "./crypto/cipher-key.js";
import type { SharedKeys } from "./shared-keys.js";
import { ByteReader } from "./wire/reader.js";
import { concat, uint16 } from "./wire/writer.js";

/**
 * Session tickets (RFC 5077 §4): the server's state of a session, sealed under keys that change with time, so that the
 * server keeps nothing, and processes with the same keys take each other's tickets.
 *
 * ```
 *  +--------------+------------+-------------------+----------+
 *  | period mod   | nonce (12) | AES-256-GCM state | tag (16) |
 *  | 2^16 (2)     |            |                   |          |
 *  +--------------+------------+-------------------+----------+
 * ```
 */
export class TicketKeys {
  readonly #keys: SharedKeys;
  readonly #lifetimeMs: number;
  readonly #random: (size: number) => Uint8Array;

  constructor(keys: SharedKeys, lifetimeMs: number, random: (size: number) => Uint8Array) {
    this.#keys = keys;
    this.#lifetimeMs = lifetimeMs;
    this.#random = random;
  }

  seal(state: Uint8Array, now: number): Uint8Array {
    const period = this.#keys.periodAt(now, this.#lifetimeMs);
    const nonce = this.#random(NONCE_BYTES);
    const head = uint16(period & 0xffff);
    const cipher = createCipheriv("aes-256-gcm", cipherKey(this.#keys.keyOf("ticket", period)), nonce).setAAD(head);
    return concat(head, nonce, cipher.update(state), cipher.final(), cipher.getAuthTag());
  }

  /** Of the period now, or the one before; undefined for anything else. */
  open(ticket: Uint8Array, now: number): Uint8Array | undefined {
    if (ticket.length < LEAST_TICKET_BYTES) return undefined;
    const reader = new ByteReader(ticket);
    const head = reader.bytes(PERIOD_BYTES);
    const nonce = reader.bytes(NONCE_BYTES);
    const sealed = reader.bytes(reader.remaining - TAG_BYTES);
    const tag = reader.bytes(TAG_BYTES);
    const period = this.#keys.periodAt(now, this.#lifetimeMs);
    const age = (period - (((head[0] ?? 0) << 8) | (head[1] ?? 0))) & 0xffff;
    if (age > 1) return undefined;
    const key = this.#keys.keyOf("ticket", period - age);
    const decipher = createDecipheriv("aes-256-gcm", cipherKey(key), nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(head).setAuthTag(tag);
    const state = decipher.update(sealed);
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return state;
  }
}

const PERIOD_BYTES = 2;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const LEAST_TICKET_BYTES = PERIOD_BYTES + NONCE_BYTES + TAG_BYTES;
