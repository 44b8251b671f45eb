import { ByteReader } from "./reader.js";
import { copyOf } from "./writer.js";

/** Finished (RFC 5246 §7.4.9): `opaque verify_data[12]`. @throws DtlsError DTLS_DECODE_ERROR */
export function decodeFinished(body: Uint8Array): Uint8Array {
  const reader = new ByteReader(body);
  const verifyData = reader.bytes(VERIFY_DATA_BYTES);
  reader.end();
  return verifyData;
}

/** Fresh bytes: a flight keeps them. */
export function encodeFinished(verifyData: Uint8Array): Uint8Array {
  return copyOf(verifyData);
}

export const VERIFY_DATA_BYTES = 12;
