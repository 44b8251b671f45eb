import { type CoapUri, coapUri, listOf, path, section } from "#config/index.js";
import * as z from "zod";
import type { AgentConfig } from "./agent-config.js";
import { type AgentCredentials, CREDENTIALS_SCHEMA } from "./credentials-config.js";
import { dtlsOptions } from "./server-authentication.js";

/**
 * One of several servers. Which anchors and credentials are its own may be said here; what is demanded of it may not: that is
 * the policy of `interfaces`, the same for all of them, so that no place in the list is less secure than another.
 */
export interface ServerEntry {
  readonly uri: CoapUri;
  readonly ca?: string | undefined;
  readonly credentials?: AgentCredentials | undefined;
}

/** The configuration toward one server. */
export type ServerConfig = AgentConfig & { readonly server: CoapUri };

const URI = coapUri({ schemes: ["coap", "coaps", "coap+tcp", "coaps+tcp"] });
const ENTRY: z.ZodType<ServerEntry, unknown> = section({
  uri: URI,
  ca: path({ isReadableFile: true }).optional(),
  credentials: CREDENTIALS_SCHEMA.refine(
    ({ renew }) => renew !== true,
    "renew is of interfaces.dpe1.credentials: what a server has of its own here is not renewed",
  ).optional(),
});

/** A URI, or a list of URIs and sections, in the order in which they are tried. */
export const SERVER_LIST_SCHEMA: z.ZodType<AgentConfig["server"], unknown> = z.union([
  listOf(z.union([ENTRY, URI]), { minItems: 1 }),
  URI,
]);

/** Reads what each server is shown and verified by. @throws X509Error for a file that does not serve. */
export function checkCredentials(config: AgentConfig): void {
  for (const server of serversOf(config)) dtlsOptions(server);
}

/** The configuration toward each server, in their order. */
export function serversOf(config: AgentConfig): readonly [ServerConfig, ...ServerConfig[]] {
  const [first, ...others] = (isList(config.server) ? config.server : [config.server]).map((entry) =>
    "uri" in entry ? toward(config, entry) : toward(config, { uri: entry }),
  );
  if (first === undefined) throw new TypeError("a configuration names a server");
  return [first, ...others];
}

/** The list as it is for an endpoint with credentials of its own. */
export function withoutCredentials(server: AgentConfig["server"]): AgentConfig["server"] {
  if (!isList(server)) return server;
  return server.map((entry) => ("uri" in entry ? { uri: entry.uri, ca: entry.ca } : entry));
}

function toward(config: AgentConfig, { uri, ca, credentials }: ServerEntry): ServerConfig {
  const { dpe1 } = config.interfaces;
  const own = { ...dpe1, ca: ca ?? dpe1.ca, credentials: credentials ?? dpe1.credentials };
  return { ...config, server: uri, interfaces: { ...config.interfaces, dpe1: own } };
}

export function isList(server: AgentConfig["server"]): server is readonly (CoapUri | ServerEntry)[] {
  return Array.isArray(server);
}
