import {
  createECDH,
  createPublicKey,
  diffieHellman,
  type ECDH,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { DtlsError } from "../errors.js";

/** Our half of an ephemeral Diffie-Hellman exchange (RFC 8422 §5.10). Used once. */
export interface KeyShare {
  readonly group: GroupName;
  /** As it goes on the wire: an uncompressed point, or 32 bytes of X25519. */
  readonly publicKey: Uint8Array;
  /** @throws DtlsError DTLS_BAD_KEY_SHARE */
  sharedSecret(peerPublicKey: Uint8Array): Uint8Array;
}

export type GroupName = keyof typeof GROUPS;

/** RFC 8422 §5.1.1. */
export const GROUPS = {
  secp256r1: { id: 23, publicKeyBytes: 65 },
  secp384r1: { id: 24, publicKeyBytes: 97 },
  x25519: { id: 29, publicKeyBytes: 32 },
} as const;

export function groupById(id: number): GroupName | undefined {
  return GROUPS_BY_ID.get(id);
}

/** A fresh key pair. */
export function generateKeyShare(group: GroupName): KeyShare {
  switch (group) {
    case "secp256r1":
      return new EcdhKeyShare(group, "prime256v1");
    case "secp384r1":
      return new EcdhKeyShare(group, "secp384r1");
    case "x25519":
      return new X25519KeyShare();
  }
}

class EcdhKeyShare implements KeyShare {
  readonly group: GroupName;
  readonly publicKey: Uint8Array;
  readonly #ecdh: ECDH;

  constructor(group: GroupName, curve: string) {
    this.group = group;
    this.#ecdh = createECDH(curve);
    this.publicKey = this.#ecdh.generateKeys();
  }

  sharedSecret(peerPublicKey: Uint8Array): Uint8Array {
    // Only the uncompressed form is allowed (RFC 8422 §5.4.1); that the point is on the curve is checked by OpenSSL.
    if (peerPublicKey.length !== GROUPS[this.group].publicKeyBytes || peerPublicKey[0] !== 4) {
      throw new DtlsError("DTLS_BAD_KEY_SHARE", this.group);
    }
    try {
      return this.#ecdh.computeSecret(peerPublicKey);
    } catch (cause) {
      throw new DtlsError("DTLS_BAD_KEY_SHARE", this.group, { cause });
    }
  }
}

class X25519KeyShare implements KeyShare {
  readonly group = "x25519";
  readonly publicKey: Uint8Array;
  readonly #privateKey: KeyObject;

  constructor() {
    const pair = generateKeyPairSync("x25519");
    this.#privateKey = pair.privateKey;
    this.publicKey = pair.publicKey.export({ type: "spki", format: "der" }).subarray(X25519_SPKI_PREFIX.length);
  }

  sharedSecret(peerPublicKey: Uint8Array): Uint8Array {
    if (peerPublicKey.length !== GROUPS.x25519.publicKeyBytes) throw new DtlsError("DTLS_BAD_KEY_SHARE", "x25519");
    let secret: Uint8Array;
    try {
      const key = Buffer.concat([X25519_SPKI_PREFIX, peerPublicKey]);
      const publicKey = createPublicKey({ key, format: "der", type: "spki" });
      secret = diffieHellman({ privateKey: this.#privateKey, publicKey });
    } catch (cause) {
      throw new DtlsError("DTLS_BAD_KEY_SHARE", "x25519", { cause });
    }
    // RFC 8422 §5.11: an all-zero secret is refused.
    if (secret.every((byte) => byte === 0)) throw new DtlsError("DTLS_BAD_KEY_SHARE", "x25519");
    return secret;
  }
}

/** SubjectPublicKeyInfo of X25519 up to the key (RFC 8410 §4). */
const X25519_SPKI_PREFIX = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00);
const GROUPS_BY_ID: ReadonlyMap<number, GroupName> = new Map(
  (Object.keys(GROUPS) as GroupName[]).map((name) => [GROUPS[name].id, name]),
);
