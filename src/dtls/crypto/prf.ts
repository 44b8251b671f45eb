import { createHmac } from "node:crypto";

/** PRF(secret, label, seed) = P_SHA256(secret, label ‖ seed), the first `length` bytes (RFC 5246 §5). */
export function prf(secret: Uint8Array, label: string, seed: Uint8Array, length: number): Uint8Array {
  const output = new Uint8Array(length);
  const labelled = Buffer.concat([Buffer.from(label, "latin1"), seed]);
  let a: Uint8Array = labelled;
  for (let offset = 0; offset < length; offset += HASH_BYTES) {
    a = createHmac("sha256", secret).update(a).digest();
    const block = createHmac("sha256", secret).update(a).update(labelled).digest();
    output.set(block.subarray(0, length - offset), offset);
  }
  return output;
}

const HASH_BYTES = 32;
