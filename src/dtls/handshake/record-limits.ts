import { MAX_PLAINTEXT_BYTES } from "../wire/record.js";

/** How long the plaintext of a record may be, as both sides agreed (RFC 6066 §4, RFC 8449 §4). */
export interface RecordLimits {
  /** Of our records in the clear, and of protected ones. */
  readonly sendPlaintextBytes: number;
  readonly sendProtectedBytes: number;
  /** Of the peer's protected records: longer ones are dropped. */
  readonly receiveProtectedBytes: number;
}

export const NO_RECORD_LIMITS: RecordLimits = {
  sendPlaintextBytes: MAX_PLAINTEXT_BYTES,
  sendProtectedBytes: MAX_PLAINTEXT_BYTES,
  receiveProtectedBytes: MAX_PLAINTEXT_BYTES,
};
