import { VERIFY_DATA_BYTES } from "../wire/finished.js";
import { concat, vector16 } from "../wire/writer.js";
import { prf, publicPrfInto } from "./prf.js";

/**
 * The premaster secret of a PSK exchange: `opaque other_secret<0..2^16-1>; opaque psk<0..2^16-1>`, where the other
 * secret is the ECDH secret (RFC 5489 §2), or as many zeros as the key is long (RFC 4279 §2).
 */
export function pskPremasterSecret(psk: Uint8Array, ecdhSecret?: Uint8Array): Uint8Array {
  const otherBytes = ecdhSecret?.length ?? psk.length;
  if (otherBytes > 0xffff || psk.length > 0xffff) throw new RangeError("a secret has at most 65,535 bytes");
  // In one array, so that no copy stays behind.
  const secret = new Uint8Array(4 + otherBytes + psk.length);
  secret[0] = otherBytes >> 8;
  secret[1] = otherBytes;
  if (ecdhSecret !== undefined) secret.set(ecdhSecret, 2);
  secret[2 + otherBytes] = psk.length >> 8;
  secret[3 + otherBytes] = psk.length;
  secret.set(psk, 4 + otherBytes);
  return secret;
}

/**
 * RFC 5246 §8.1. `isForwardSecret`, here and below: whether nothing that stays in memory gives the secrets, as with ECDHE;
 * then what they pass through is wiped. With a PSK alone that key does, to whoever recorded the handshake (RFC 4279 §7.1).
 */
export function masterSecret(
  premasterSecret: Uint8Array,
  clientRandom: Uint8Array,
  serverRandom: Uint8Array,
  isForwardSecret = true,
): Uint8Array {
  return prf(premasterSecret, "master secret", clientRandom, MASTER_SECRET_BYTES, serverRandom, isForwardSecret);
}

/** RFC 7627 §4; the session hash covers the messages up to ClientKeyExchange. */
export function extendedMasterSecret(
  premasterSecret: Uint8Array,
  sessionHash: Uint8Array,
  isForwardSecret = true,
): Uint8Array {
  const label = "extended master secret";
  return prf(premasterSecret, label, sessionHash, MASTER_SECRET_BYTES, undefined, isForwardSecret);
}

/** client key (16) ‖ server key (16) ‖ client salt (4) ‖ server salt (4): all suites here are AES-128 AEAD (RFC 5246 §6.3). */
export function keyBlock(
  secret: Uint8Array,
  clientRandom: Uint8Array,
  serverRandom: Uint8Array,
  isForwardSecret = true,
): Uint8Array {
  return prf(secret, "key expansion", serverRandom, KEY_BLOCK_BYTES, clientRandom, isForwardSecret);
}

/** RFC 5246 §7.4.9. In scratch space: valid until the next is asked for. */
export function verifyData(secret: Uint8Array, sender: "client" | "server", transcriptHash: Uint8Array): Uint8Array {
  publicPrfInto(secret, sender === "client" ? "client finished" : "server finished", transcriptHash, VERIFY_DATA);
  return VERIFY_DATA;
}

/** Keying material for others (RFC 5705 §4); an absent context differs from an empty one. */
export function exportedKeyingMaterial(
  { masterSecret: secret, clientRandom, serverRandom }: ExporterSecrets,
  label: string,
  context: Uint8Array | undefined,
  length: number,
): Uint8Array {
  const seed = concat(clientRandom, serverRandom, context === undefined ? new Uint8Array(0) : vector16(context));
  return prf(secret, label, seed, length);
}

export interface ExporterSecrets {
  readonly masterSecret: Uint8Array;
  readonly clientRandom: Uint8Array;
  readonly serverRandom: Uint8Array;
}

export const KEY_BYTES = 16;
export const SALT_BYTES = 4;
export const KEY_BLOCK_BYTES: number = 2 * (KEY_BYTES + SALT_BYTES);
const MASTER_SECRET_BYTES = 48;
/** A view into a longer array: one so short of its own lives in V8's heap until native code compares it, which costs 1 µs. */
const VERIFY_DATA: Uint8Array = new Uint8Array(128).subarray(0, VERIFY_DATA_BYTES);
