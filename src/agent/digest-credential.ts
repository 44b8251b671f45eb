import { randomBytes } from "node:crypto";
import { DigestClient } from "#digest/index.js";
import { gbaPassword, gbaRealm } from "#security/index.js";
import { type AgentCredentials, ksNafBytes } from "./credentials-config.js";
import type { ServerConfig } from "./server-list.js";

/** Makes clients of Digest with the agent's credential for one server; undefined without a username. */
export function digestClientOf({ interfaces, server }: ServerConfig): (() => DigestClient) | undefined {
  const { credentials, digest } = interfaces.dpe1;
  const secret = digestSecretOf(credentials, server.host);
  if (secret === undefined) return undefined;
  const { dangerAllowMd5, dangerAllowNoQop } = digest;
  return () => new DigestClient({ secret, random: randomBytes, dangerAllowMd5, dangerAllowNoQop });
}

function digestSecretOf(
  { username, password, gba }: AgentCredentials,
  host: string,
): { readonly username: string; readonly password: string; readonly realm?: string } | undefined {
  if (username !== undefined && password !== undefined) return { username, password: password.text() };
  const ksNaf = gba === undefined ? undefined : ksNafBytes(gba.ksNaf);
  if (gba === undefined || ksNaf === undefined) return undefined;
  // TS 33.222 §5.3: the credential is for this NAF alone, and so is answered in its realm alone.
  return {
    username: gba.btid,
    password: gbaPassword(ksNaf),
    realm: gbaRealm(gba.naf ?? host),
  };
}
