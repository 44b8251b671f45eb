import { path, type Secret, secret, secretFile, section, text } from "#config/index.js";
import type { z } from "zod";

/** What a client shows of itself. */
export interface AgentCredentials {
  readonly username?: string | undefined;
  readonly password?: Secret | undefined;
  readonly psk?: { readonly identity: string; readonly key: Secret } | undefined;
  /** PEM, leaf first. */
  readonly certificate?: string | undefined;
  readonly key?: Secret | undefined;
}

export const CREDENTIALS_SCHEMA: z.ZodType<AgentCredentials, unknown> = section({
  username: text().optional(),
  password: secret().optional(),
  psk: section({ identity: text(), key: secret() }).optional(),
  certificate: path({ isReadableFile: true }).optional(),
  key: secretFile().optional(),
})
  .refine((given) => (given.certificate === undefined) === (given.key === undefined), "certificate and key go together")
  .refine(
    ({ username, password }) => (username === undefined) === (password === undefined),
    "username and password go together",
  );
