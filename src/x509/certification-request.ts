import { createPublicKey, webcrypto, type KeyObject } from "node:crypto";
import { peculiar } from "./peculiar.js";

/**
 * Generates a key pair on P-256 and asks for a certificate of it (PKCS #10, RFC 2986). The request says nothing of who asks:
 * that is for the issuer to know. It is signed by the key, which proves that the asker has it.
 */
export async function generateKeyAndRequest(): Promise<KeyAndRequest> {
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const request = await peculiar().Pkcs10CertificateRequestGenerator.create(
    { keys, signingAlgorithm: { name: "ECDSA", hash: "SHA-256" } },
    webcrypto,
  );
  const { PemConverter } = peculiar();
  const pkcs8 = new Uint8Array(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
  return {
    privateKeyPem: `${PemConverter.encode(pkcs8, PemConverter.PrivateKeyTag)}\n`,
    request: new Uint8Array(request.rawData),
  };
}

export interface KeyAndRequest {
  /** PKCS #8. A secret. */
  readonly privateKeyPem: string;
  /** DER. */
  readonly request: Uint8Array;
}

/** The key that a request is for, where it is on P-256 and the request is signed by it; undefined for all else. */
export async function keyOfRequest(request: Uint8Array): Promise<KeyObject | undefined> {
  if (request.length > MAX_REQUEST_BYTES) return undefined;
  try {
    const parsed = new (peculiar().Pkcs10CertificateRequest)(new Uint8Array(request));
    const key = createPublicKey({ key: Buffer.from(parsed.publicKey.rawData), format: "der", type: "spki" });
    if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") return undefined;
    return (await parsed.verify(webcrypto)) ? key : undefined;
  } catch {
    return undefined; // Whatever a parser threw, it is the peer's bytes that were wrong.
  }
}

const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;
/** One on P-256 without names has about 200. */
const MAX_REQUEST_BYTES = 1024;
