import { AGENT_SCHEMA } from "#agent/index.js";
import { loadConfig, renderConfig } from "#config/index.js";
import { SERVER_SCHEMA } from "#server/index.js";
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import type { CommandOptions } from "./dpe.js";
import { UsageError } from "./exit.js";

/** `dpe check`: an agent's file names an `endpoint`, a server's does not. */
export function runCheck({ config }: CommandOptions): Promise<void> {
  if (config === undefined) throw new UsageError("dpe check needs --config FILE");
  const text = isAgentFile(config)
    ? renderConfig(AGENT_SCHEMA, loadConfig(config, AGENT_SCHEMA))
    : renderConfig(SERVER_SCHEMA, loadConfig(config, SERVER_SCHEMA));
  process.stdout.write(text);
  return Promise.resolve();
}

/** Whatever cannot be read is left to `loadConfig`, which says what is wrong. */
function isAgentFile(file: string): boolean {
  try {
    const root: unknown = parse(readFileSync(file, "utf8"));
    return typeof root === "object" && root !== null && ("endpoint" in root || "server" in root);
  } catch {
    return false;
  }
}
