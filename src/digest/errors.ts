/** What a caller did wrong. Nothing from the network ends in a DigestError: refusals are values. */
export const DIGEST_ERROR_CODES = [
  /** A username with a colon, which would make HA1 ambiguous (RFC 7616 §3.4.2). */
  "DIGEST_BAD_USERNAME",
  /** An option outside its range: a key too short, a bound below one, a lifetime that is not positive. */
  "DIGEST_BAD_OPTION",
  /** A nonce count outside 1 … 0xffffffff. */
  "DIGEST_BAD_NONCE_COUNT",
] as const;

export type DigestErrorCode = (typeof DIGEST_ERROR_CODES)[number];

/** The root error of this layer: caller misuse, by code. */
export class DigestError extends Error {
  override readonly name = "DigestError";
  readonly code: DigestErrorCode;

  constructor(code: DigestErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
