import { pino } from "pino";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent, hostSource } from "#agent/index.js";
import { loadConfig } from "#config/index.js";
import { type Command, configFile } from "./command.js";
import { describe } from "./exit.js";
import { untilSignal } from "./signals.js";

/** `dpe agent`: runs until SIGINT or SIGTERM, or an authentication error. */
export const agentCommand: Command = {
  name: "agent",
  synopsis: "--config FILE",
  summary: "run a DPE Client on this machine",
  run: (words) => runAgent(configFile(agentCommand, words)),
};

async function runAgent(file: string): Promise<void> {
  const config = loadConfig(file, AGENT_SCHEMA);
  const log = pino();
  const sources = config.sources.map(({ every }) => hostSource(every));
  const agent = new DpeAgent(config, sources, (event) => log.info(logged(event), event.type));
  try {
    await Promise.race([untilSignal(), agent.stopped]);
  } finally {
    await agent.close();
  }
}

function logged(event: AgentEvent): Record<string, unknown> {
  switch (event.type) {
    case "lost":
    case "refused":
      return { error: describe(event.error) };
    case "registered":
      return { endpoint: event.endpoint };
    case "reported":
      return { properties: event.properties };
    case "queried":
      return { path: event.path };
    case "server-error":
      return { authError: event.authError };
  }
}
