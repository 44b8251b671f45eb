/**
 * The algorithms of RFC 7616 §6.1. `SHA-512-256` is SHA-512/256 of FIPS 180-4 §5.3.6.2 with its own initial value,
 * not a truncated SHA-512.
 */
export const DIGEST_ALGORITHMS = [
  "SHA-512-256-sess",
  "SHA-512-256",
  "SHA-256-sess",
  "SHA-256",
  "MD5-sess",
  "MD5",
] as const;

/** An algorithm by its registered name. `DIGEST_ALGORITHMS` lists them strongest first. */
export type DigestAlgorithm = (typeof DIGEST_ALGORITHMS)[number];

/** The hash under an algorithm. An HA1 at rest belongs to a hash: `SHA-256` and `SHA-256-sess` share theirs. */
export const DIGEST_HASHES = ["SHA-512-256", "SHA-256", "MD5"] as const;
export type DigestHash = (typeof DIGEST_HASHES)[number];

/** Qualities of protection (RFC 7616 §3.3), strongest first. `auth-int` covers the body too. */
export const DIGEST_QOPS = ["auth-int", "auth"] as const;
export type DigestQop = (typeof DIGEST_QOPS)[number];

/** The qop of an answer; `none` is that of RFC 2069, which RFC 2617 §3.2.2.1 still allows: no `nc`, and no cnonce but for -sess. */
export type AuthorizationQop = DigestQop | "none";

/** Length of a hash's output, and so of an HA1, a response and a userhash, in bytes. */
export const DIGEST_HASH_BYTES: Readonly<Record<DigestHash, number>> = { MD5: 16, "SHA-256": 32, "SHA-512-256": 32 };

/** The hash that an algorithm uses. */
export function hashOf(algorithm: DigestAlgorithm): DigestHash {
  switch (algorithm) {
    case "MD5":
    case "MD5-sess":
      return "MD5";
    case "SHA-256":
    case "SHA-256-sess":
      return "SHA-256";
    case "SHA-512-256":
    case "SHA-512-256-sess":
      return "SHA-512-256";
  }
}

/** Whether A1 takes in the nonce and cnonce of the session (RFC 7616 §3.4.2). */
export function isSessionAlgorithm(algorithm: DigestAlgorithm): boolean {
  return algorithm.endsWith("-sess");
}
