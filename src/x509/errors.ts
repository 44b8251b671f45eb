/** What is wrong with a file that the operator gave. Nothing from the network ends in an X509Error: refusals are verdicts. */
export const X509_ERROR_CODES = [
  /** The text holds no CERTIFICATE block. */
  "X509_NO_CERTIFICATE",
  /** A CERTIFICATE block is not base64, or not a certificate. */
  "X509_MALFORMED_CERTIFICATE",
  /** Certificates of a chain do not follow each other: leaf first, each issued by the next. */
  "X509_CHAIN_OUT_OF_ORDER",
  /** The text holds no private key block. */
  "X509_NO_PRIVATE_KEY",
  /** The private key is encrypted. */
  "X509_ENCRYPTED_PRIVATE_KEY",
  /** The public key block does not decode. */
  "X509_MALFORMED_PUBLIC_KEY",
  /** The private key block does not decode. */
  "X509_MALFORMED_PRIVATE_KEY",
  /** The private key is neither ECDSA on P-256, P-384 or P-521, nor RSA of 2048 bits or more. */
  "X509_UNSUPPORTED_PRIVATE_KEY",
  /** The private key is not that of the first certificate. */
  "X509_KEY_MISMATCH",
  /** The file holds no revocation list. */
  "X509_NO_CRL",
  /** A revocation list does not decode, or has no nextUpdate. */
  "X509_MALFORMED_CRL",
  /** A delta, indirect or partial revocation list. */
  "X509_UNSUPPORTED_CRL",
  /** Our own certificate is not valid any more. */
  "X509_EXPIRED",
  /** An option of `issueThrowawayCredentials` that cannot be. */
  "X509_BAD_OPTION",
] as const;

export type X509ErrorCode = (typeof X509_ERROR_CODES)[number];

/** What `read` gives; an X509Error of it begins with the name of the file that was read. */
export function inFile<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof X509Error)) throw error;
    throw new X509Error(error.code, `${name}: ${error.message}`, { cause: error });
  }
}

/** The root error of this layer: caller misuse, by code; the message says what is wrong and what to do. */
export class X509Error extends Error {
  override readonly name = "X509Error";
  readonly code: X509ErrorCode;

  constructor(code: X509ErrorCode, message: string, options?: { readonly cause: unknown }) {
    super(message, options);
    this.code = code;
  }
}
