import { createHash } from "node:crypto";
import { Decoder } from "cbor-x";

/**
 * A Digest answer by the text of RFC 7616 §3.4 and docs/binding.md alone: no line of the project's own Digest, options or
 * CBOR encoding is used, so that it can be wrong in the same way only by chance. SHA-256, qop auth, nc 1.
 */
export function answerChallenge(
  challenge: Uint8Array,
  request: { readonly method: string; readonly uri: string },
  credentials: { readonly username: string; readonly password: string },
): Uint8Array {
  const fields: unknown = new Decoder({ mapsAsObjects: false }).decode(challenge);
  if (!(fields instanceof Map)) throw new Error("the challenge is not a CBOR map");
  const realm = String(fields.get(1));
  const nonce = Buffer.from(fields.get(2) as Uint8Array);
  const cnonce = Buffer.from("00112233445566778899aabbccddeeff", "hex");
  const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
  const ha1 = sha256(`${credentials.username}:${realm}:${credentials.password}`);
  const ha2 = sha256(`${request.method}:${request.uri}`);
  const response = sha256(`${ha1}:${nonce.toString("hex")}:00000001:${cnonce.toString("hex")}:auth:${ha2}`);
  return Buffer.concat([
    // RFC 8949 §3: a map of 8 pairs, keys in the first byte of each.
    Buffer.from([0xa8]),
    Buffer.concat([Buffer.from([1]), head(3, Buffer.byteLength(realm)), Buffer.from(realm)]),
    Buffer.concat([Buffer.from([2]), head(2, nonce.length), nonce]),
    Buffer.from([5, 3]),
    Buffer.from([6, 1]),
    Buffer.concat([Buffer.from([9]), head(3, credentials.username.length), Buffer.from(credentials.username)]),
    Buffer.concat([Buffer.from([10]), head(2, cnonce.length), cnonce]),
    Buffer.from([11, 1]),
    Buffer.concat([Buffer.from([12]), head(2, 32), Buffer.from(response, "hex")]),
  ]);
}

/** A CBOR head for lengths below 256 (RFC 8949 §3). */
function head(majorType: number, length: number): Buffer {
  return length < 24 ? Buffer.from([(majorType << 5) | length]) : Buffer.from([(majorType << 5) | 24, length]);
}
