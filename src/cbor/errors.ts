/** The bytes are not CBOR as this layer takes it; `reason` says what was met and where. */
export class CborError extends Error {
  override readonly name = "CborError";
  readonly code = "CBOR_REFUSED";
}
