export { AGENT_SCHEMA, type AgentConfig } from "./agent-config.js";
export { type AgentEvent, DpeAgent, type Source } from "./dpe-agent.js";
export { hostSource } from "./host-source.js";
export type { Reading } from "./properties.js";
