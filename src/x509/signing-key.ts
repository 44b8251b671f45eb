import { type KeyObject, webcrypto } from "node:crypto";
import { X509Error } from "./errors.js";

/** A CA's private key for Web Cryptography. @throws X509Error X509_BAD_OPTION for a key that is not on P-256 or P-384. */
export async function webSigningKey(privateKey: KeyObject): Promise<webcrypto.CryptoKey> {
  const pkcs8 = privateKey.export({ type: "pkcs8", format: "der" });
  return webcrypto.subtle.importKey("pkcs8", pkcs8, signingAlgorithmOf(privateKey), false, ["sign"]);
}

/** @throws X509Error X509_BAD_OPTION for a key that is not on P-256 or P-384. */
export function signingAlgorithmOf(key: KeyObject): SigningAlgorithm {
  const curve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ""];
  if (curve === undefined) throw new X509Error("X509_BAD_OPTION", "the CA's key is not on P-256 or P-384");
  return { name: "ECDSA", ...curve };
}

export interface SigningAlgorithm {
  readonly name: "ECDSA";
  readonly namedCurve: string;
  readonly hash: string;
}

const CURVES: Readonly<Record<string, { readonly namedCurve: string; readonly hash: string }>> = {
  prime256v1: { namedCurve: "P-256", hash: "SHA-256" },
  secp384r1: { namedCurve: "P-384", hash: "SHA-384" },
};
