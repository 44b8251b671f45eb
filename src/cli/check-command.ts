import { AGENT_SCHEMA } from "#agent/index.js";
import { loadConfig, renderConfig } from "#config/index.js";
import { SERVER_SCHEMA } from "#server/index.js";
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { type Command, configFile } from "./command.js";

/** `dpe check`: an agent's file names an `endpoint`, a server's does not. */
export const checkCommand: Command = {
  name: "check",
  synopsis: "--config FILE",
  summary: "check a configuration and print what it comes to, secrets masked",
  run: (words) => runCheck(configFile(checkCommand, words)),
};

function runCheck(config: string): Promise<void> {
  const text = isAgentFile(config)
    ? renderConfig(AGENT_SCHEMA, loadConfig(config, AGENT_SCHEMA))
    : renderConfig(SERVER_SCHEMA, loadConfig(config, SERVER_SCHEMA));
  process.stdout.write(text);
  return Promise.resolve();
}

/** Whatever cannot be read is left to `loadConfig`, which says what is wrong. */
export function isAgentFile(file: string): boolean {
  try {
    const root: unknown = parse(readFileSync(file, "utf8"));
    return typeof root === "object" && root !== null && ("endpoint" in root || "server" in root);
  } catch {
    return false;
  }
}
