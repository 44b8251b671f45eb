import { host, path, type Secret, secret, secretFile, section, text } from "#config/index.js";
import { readFileSync } from "node:fs";
import * as z from "zod";
import { parseKsNaf } from "#security/index.js";

/** What a client shows of itself. */
export interface AgentCredentials {
  readonly username?: string | undefined;
  readonly password?: Secret | undefined;
  /** What bootstrapping with the network gave (3GPP TS 33.222), in place of username and password. */
  readonly gba?: AgentGba | undefined;
  readonly psk?: { readonly identity: string; readonly key: Secret } | undefined;
  /** PEM, leaf first. */
  readonly certificate?: string | undefined;
  readonly key?: Secret | undefined;
  /** The private key that stands for the agent without a certificate (RFC 7250), PEM; over DTLS only. */
  readonly rawPublicKey?: Secret | undefined;
  /** What pairing gave is renewed by the server: the certificate, which is then in one file with its key, and the `ca`. */
  readonly renew?: boolean | undefined;
}

export interface AgentGba {
  readonly btid: string;
  /** 32 bytes: `hex:…`, or base64 of them. */
  readonly ksNaf: Secret;
  /** The server's name in the bootstrapping. Default: the host that is dialled. */
  readonly naf?: string | undefined;
}

export const CREDENTIALS_SCHEMA: z.ZodType<AgentCredentials, unknown> = section({
  username: text().optional(),
  password: secret().optional(),
  gba: section({
    btid: text(),
    ksNaf: secret().refine((value) => ksNafBytes(value) !== undefined, "Ks_NAF has 32 bytes: hex:… or base64"),
    naf: host().optional(),
  }).optional(),
  psk: section({ identity: text(), key: secret() }).optional(),
  certificate: path({ isReadableFile: true }).optional(),
  key: secretFile().optional(),
  rawPublicKey: secretFile().optional(),
  renew: z.boolean().default(false),
})
  .refine(
    ({ certificate, renew }) =>
      !renew || certificate === undefined || /PRIVATE KEY/.test(readFileSync(certificate, "utf8")),
    "renew needs certificate and key in one file, so that they are exchanged together",
  )
  .refine((given) => (given.certificate === undefined) === (given.key === undefined), "certificate and key go together")
  .refine(
    ({ username, password }) => (username === undefined) === (password === undefined),
    "username and password go together",
  )
  .refine(
    ({ username, gba }) => username === undefined || gba === undefined,
    "username with password and gba exclude each other",
  );

/** Ks_NAF as it is given, raw or in base64; undefined where it has not its 32 bytes. */
export function ksNafBytes(value: Secret): Uint8Array | undefined {
  const bytes = value.reveal();
  if (bytes.length === KS_NAF_BYTES) return bytes;
  return parseKsNaf(value.text().trim());
}

/** 3GPP TS 33.220 annex B. */
const KS_NAF_BYTES = 32;
