export { clientPolicy } from "./server-authentication.js";
export { AGENT_SCHEMA, type AgentConfig } from "./agent-config.js";
export { AgentError, type AgentErrorCode } from "./agent-error.js";
export type { AgentEvent } from "./agent-event.js";
export { DpeAgent } from "./dpe-agent.js";
export { sourcesOf } from "./sources/configured-sources.js";
export { hostSource } from "./sources/host-source.js";
export type { Reading, Source } from "./sources/source.js";
