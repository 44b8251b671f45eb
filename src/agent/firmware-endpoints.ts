import { join } from "node:path";
import type { AgentConfig } from "./agent-config.js";
import type { FirmwareConfig } from "./firmware-config.js";
import { isFirmware } from "./firmware-config.js";
import { withoutCredentials } from "./server-list.js";
import type { SourceConfig } from "./sources/source-config.js";

/**
 * The agents that one file asks for: the gateway's own, and one for each microcontroller that is an endpoint of its own,
 * with its own name and credentials toward the same server under the same policy.
 */
export function agentsOf(config: AgentConfig): readonly AgentConfig[] {
  const isOwn = (source: SourceConfig): source is OwnSource => isFirmware(source) && source.as === "endpoint";
  const own = config.sources.filter(isOwn);
  const gateway = { ...config, sources: config.sources.filter((source) => !isOwn(source)) };
  return [gateway, ...own.map((source) => endpointConfig(config, source))];
}

type OwnSource = SourceConfig & FirmwareConfig;

/** A name of an endpoint as that of a folder. */
function storeName(endpoint: string): string {
  return encodeURIComponent(endpoint).replaceAll(".", "%2e");
}

function endpointConfig(config: AgentConfig, source: OwnSource): AgentConfig {
  const { dpe1, dpe2 } = config.interfaces;
  // An address to listen on is the gateway's alone.
  const bind = typeof dpe2.bind === "string" ? dpe2.bind : "association";
  return {
    ...config,
    endpoint: source.endpoint ?? "",
    server: withoutCredentials(config.server),
    // Its own readings, not the gateway's: one folder has one writer.
    ...(config.store === undefined ? {} : { store: join(config.store, "firmware", storeName(source.endpoint ?? "")) }),
    interfaces: { dpe1: { ...dpe1, credentials: source.credentials ?? {} }, dpe2: { ...dpe2, bind } },
    sources: [source],
  };
}
