import { DIGEST_HASHES, type DigestHash } from "./algorithm.js";
import { computeHa1 } from "./calculation.js";
import { conceal } from "./conceal.js";
import { DigestError } from "./errors.js";
import { decodeHex } from "./hex.js";

/**
 * A credential at rest: HA1 values of one user in one realm, a password equivalent for that realm only
 * (RFC 7616 §5.2). Existing HA1 databases load as they are.
 */
export interface StoredCredential {
  /** In Unicode Normalization Form C, without a colon. */
  readonly username: string;
  readonly realm: string;
  /** By hash, as 16 (MD5) or 32 bytes. An absent hash cannot be authenticated with. */
  readonly ha1: Readonly<Partial<Record<DigestHash, Uint8Array>>>;
}

/**
 * Builds a credential from a password. Username and password are taken in Normalization Form C and UTF-8, as RFC 7616 §4
 * has them; the realm as it is.
 *
 * @param hashes - which HA1 to keep; all but MD5 when left out.
 * @throws DigestError DIGEST_BAD_USERNAME
 */
export function createStoredCredential(
  input: { readonly username: string; readonly realm: string; readonly password: string },
  hashes: readonly DigestHash[] = MODERN_HASHES,
): StoredCredential {
  const username = normalizeUsername(input.username);
  const password = input.password.normalize("NFC");
  const ha1: Partial<Record<DigestHash, Uint8Array>> = {};
  for (const hash of hashes) ha1[hash] = decodeHex(computeHa1(hash, username, input.realm, password));
  return conceal({ username, realm: input.realm, ha1 }, "ha1");
}

/**
 * The form of a username in the calculation and on the wire.
 *
 * @throws DigestError DIGEST_BAD_USERNAME
 */
export function normalizeUsername(username: string): string {
  if (username.includes(":")) throw new DigestError("DIGEST_BAD_USERNAME", "a username holds no colon");
  return username.normalize("NFC");
}

const MODERN_HASHES: readonly DigestHash[] = DIGEST_HASHES.filter((hash) => hash !== "MD5");
