import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { CertificateCredential } from "#dtls/index.js";

/** The certificates of test/fixtures/dtls, made by its make.sh. */
export type FixtureName = "p256" | "p384" | "rsa" | "ed25519" | "client";

export function credential(name: FixtureName): CertificateCredential {
  return { chain: [der(name), der("ca")], privateKey: createPrivateKey(read(`${name}-key`)) };
}

export function der(name: FixtureName | "ca"): Uint8Array {
  return new Uint8Array(new X509Certificate(read(name)).raw);
}

function read(name: string): string {
  const folder = new URL("../../../test/fixtures/dtls/", import.meta.url);
  return readFileSync(fileURLToPath(new URL(`${name}.pem`, folder)), "utf8");
}
