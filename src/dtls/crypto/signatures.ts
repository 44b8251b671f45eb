import { constants, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { DtlsError } from "../errors.js";
import type { GroupName } from "./key-exchange.js";

export type SignatureSchemeName = keyof typeof SIGNATURE_SCHEMES;

/** RFC 5246 §7.4.1.4.1, RFC 8422 §5.1.3; the PSS code point is usable in 1.2 by RFC 8446 §4.2.3. `hash` is null where the algorithm hashes itself. */
export const SIGNATURE_SCHEMES = {
  ecdsa_secp256r1_sha256: { id: 0x0403, keyType: "ec", hash: "sha256", isPss: false },
  ecdsa_secp384r1_sha384: { id: 0x0503, keyType: "ec", hash: "sha384", isPss: false },
  ed25519: { id: 0x0807, keyType: "ed25519", hash: null, isPss: false },
  rsa_pss_rsae_sha256: { id: 0x0804, keyType: "rsa", hash: "sha256", isPss: true },
  rsa_pkcs1_sha256: { id: 0x0401, keyType: "rsa", hash: "sha256", isPss: false },
} as const;

/** In TLS 1.2 an ECDSA scheme names the hash only, not the curve (RFC 5246 §7.4.1.4.1). */
export function schemeServesKey(scheme: SignatureSchemeName, key: KeyObject): boolean {
  return SIGNATURE_SCHEMES[scheme].keyType === keyTypeOf(key);
}

export function schemeById(id: number): SignatureSchemeName | undefined {
  return SCHEMES_BY_ID.get(id);
}

export function signWith(scheme: SignatureSchemeName, key: KeyObject, content: Uint8Array): Uint8Array {
  const { hash, isPss } = SIGNATURE_SCHEMES[scheme];
  return sign(hash, content, isPss ? { key, ...PSS } : { key });
}

export function verifyWith(
  scheme: SignatureSchemeName,
  key: KeyObject,
  content: Uint8Array,
  signature: Uint8Array,
): boolean {
  const { hash, isPss } = SIGNATURE_SCHEMES[scheme];
  if (!schemeServesKey(scheme, key)) return false;
  try {
    return verify(hash, content, isPss ? { key, ...PSS } : { key }, signature);
  } catch {
    return false;
  }
}

/** @throws DtlsError DTLS_BAD_CERTIFICATE */
export function publicKeyOfSpki(spki: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  } catch (cause) {
    throw new DtlsError("DTLS_BAD_CERTIFICATE", "raw public key", { cause });
  }
}

/** Undefined for keys that no suite here can use. */
export function keyTypeOf(key: KeyObject): "ec" | "rsa" | "ed25519" | undefined {
  const type = key.asymmetricKeyType;
  if (type === "ec") return curveOf(key) === undefined ? undefined : "ec";
  return type === "rsa" || type === "ed25519" ? type : undefined;
}

/** The curve of an EC key; undefined for other keys and other curves. */
export function curveOf(key: KeyObject): GroupName | undefined {
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (curve === "prime256v1") return "secp256r1";
  return curve === "secp384r1" ? "secp384r1" : undefined;
}

const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
const SCHEMES_BY_ID: ReadonlyMap<number, SignatureSchemeName> = new Map(
  (Object.keys(SIGNATURE_SCHEMES) as SignatureSchemeName[]).map((name) => [SIGNATURE_SCHEMES[name].id, name]),
);
