import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
  type JsonGeneralName,
} from "@peculiar/x509";

/** The time that certificates of the factory are verified at unless a case says otherwise. */
export const NOW_MS: number = Date.UTC(2026, 5, 15, 12);
export const DAY_MS = 86_400_000;

export interface Issued {
  readonly name: string;
  readonly der: Uint8Array;
  readonly keys: webcrypto.CryptoKeyPair;
}

/** What a certificate is made of; an `undefined` extension is left out, with `hash` SHA-256 by default. */
export interface Recipe {
  readonly name: string;
  readonly issuer?: Issued;
  readonly keys?: webcrypto.CryptoKeyPair;
  readonly hash?: "SHA-1" | "SHA-256" | "SHA-384";
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly publicKey?: Uint8Array;
  readonly hasKeyIds?: boolean;
  readonly basicConstraints?: { readonly ca: boolean; readonly pathLength?: number } | undefined;
  readonly keyUsage?: number | undefined;
  readonly extendedKeyUsage?: readonly string[] | undefined;
  readonly names?: readonly JsonGeneralName[];
  readonly extensions?: readonly Extension[];
}

export const USAGE: {
  readonly server: string;
  readonly client: string;
  readonly codeSigning: string;
  readonly any: string;
} = {
  server: ExtendedKeyUsage.serverAuth,
  client: ExtendedKeyUsage.clientAuth,
  codeSigning: ExtendedKeyUsage.codeSigning,
  any: "2.5.29.37.0",
};

export const KEY_USAGE: { readonly sign: number; readonly certify: number; readonly encipher: number } = {
  sign: KeyUsageFlags.digitalSignature,
  certify: KeyUsageFlags.keyCertSign,
  encipher: KeyUsageFlags.keyEncipherment,
};

export const ecKeys = (namedCurve = "P-256"): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey({ name: "ECDSA", namedCurve }, true, ["sign", "verify"]);

export const rsaKeys = (
  modulusLength: number,
  hash = "SHA-256",
  name = "RSASSA-PKCS1-v1_5",
): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey({ name, modulusLength, publicExponent: Uint8Array.of(1, 0, 1), hash }, true, [
    "sign",
    "verify",
  ]);

/** A CA: self-signed without an issuer. */
export function authority(recipe: Recipe): Promise<Issued> {
  return certificate({ basicConstraints: { ca: true }, keyUsage: KEY_USAGE.certify, ...recipe });
}

/** A server's certificate for host.example.com unless the recipe has other names. */
export function server(recipe: Partial<Recipe> & { readonly issuer: Issued }): Promise<Issued> {
  return certificate({
    name: "CN=server",
    basicConstraints: { ca: false },
    keyUsage: KEY_USAGE.sign,
    extendedKeyUsage: [USAGE.server],
    names: [{ type: "dns", value: "host.example.com" }],
    ...recipe,
  });
}

export async function certificate(recipe: Recipe): Promise<Issued> {
  const keys = recipe.keys ?? (await ecKeys());
  const issuer = recipe.issuer ?? { name: recipe.name, keys };
  const { basicConstraints, keyUsage, extendedKeyUsage, names = [], extensions = [], hasKeyIds = true } = recipe;
  const made = await X509CertificateGenerator.create(
    {
      subject: recipe.name,
      issuer: issuer.name,
      notBefore: new Date(recipe.notBeforeMs ?? NOW_MS - 10 * DAY_MS),
      notAfter: new Date(recipe.notAfterMs ?? NOW_MS + 10 * DAY_MS),
      publicKey: recipe.publicKey ?? keys.publicKey,
      signingKey: issuer.keys.privateKey,
      signingAlgorithm: { name: issuer.keys.privateKey.algorithm.name, hash: recipe.hash ?? "SHA-256", saltLength: 32 },
      extensions: [
        ...(basicConstraints === undefined
          ? []
          : [new BasicConstraintsExtension(basicConstraints.ca, basicConstraints.pathLength, true)]),
        ...(keyUsage === undefined ? [] : [new KeyUsagesExtension(keyUsage, true)]),
        ...(extendedKeyUsage === undefined ? [] : [new ExtendedKeyUsageExtension([...extendedKeyUsage])]),
        ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension([...names])]),
        ...(hasKeyIds
          ? [
              await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
              await AuthorityKeyIdentifierExtension.create(issuer.keys.publicKey, false, webcrypto),
            ]
          : []),
        ...extensions,
      ],
    },
    webcrypto,
  );
  return { name: recipe.name, der: new Uint8Array(made.rawData), keys };
}

/** One DER element of up to 65,535 bytes. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const contents = parts.flatMap((part) => [...part]);
  const { length } = contents;
  const header = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Uint8Array.of(tag, ...header, ...contents);
}

export const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** GeneralNames of constraints, by their context tags (RFC 5280 §4.2.1.6). */
export const base = {
  dns: (name: string): Uint8Array => der(0x82, ascii(name)),
  email: (name: string): Uint8Array => der(0x81, ascii(name)),
  uri: (host: string): Uint8Array => der(0x86, ascii(host)),
  ip: (...bytes: number[]): Uint8Array => der(0x87, Uint8Array.from(bytes)),
  /** A directory name of one organization. */
  organization: (name: string): Uint8Array =>
    der(0xa4, der(0x30, der(0x31, der(0x30, Uint8Array.of(6, 3, 0x55, 4, 10), der(0x0c, ascii(name)))))),
} as const;

/** A nameConstraints extension (RFC 5280 §4.2.1.10). */
export function nameConstraints(lists: {
  readonly permitted?: readonly Uint8Array[];
  readonly excluded?: readonly Uint8Array[];
}): Extension {
  const subtrees = (tag: number, bases: readonly Uint8Array[] = []): Uint8Array[] =>
    bases.length === 0 ? [] : [der(tag, ...bases.map((each) => der(0x30, each)))];
  return extension("2.5.29.30", true, der(0x30, ...subtrees(0xa0, lists.permitted), ...subtrees(0xa1, lists.excluded)));
}

export function extension(type: string, isCritical: boolean, value: Uint8Array): Extension {
  return new Extension(type, isCritical, value.slice().buffer);
}

export function pem({ der: bytes }: Issued): string {
  return `-----BEGIN CERTIFICATE-----\n${Buffer.from(bytes).toString("base64")}\n-----END CERTIFICATE-----\n`;
}
