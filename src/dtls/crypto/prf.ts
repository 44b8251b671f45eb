import { HmacSha256, SHA256_BYTES } from "./sha256.js";

/** PRF(secret, label, seed) = P_SHA256(secret, label ‖ seed), the first `length` bytes (RFC 5246 §5). */
export function prf(secret: Uint8Array, label: string, seed: Uint8Array, length: number): Uint8Array {
  const output = new Uint8Array(length);
  const hmac = new HmacSha256(secret);
  const labelBytes = Buffer.from(label, "latin1");
  let a = hmac.mac(labelBytes, seed);
  for (let offset = 0; offset < length; offset += SHA256_BYTES) {
    hmac.secretMacInto(output, offset, a, labelBytes, seed);
    if (offset + SHA256_BYTES < length) a = hmac.mac(a);
  }
  hmac.clear();
  return output;
}
