export { recordsOf } from "./dpe2-requests.js";
export type { SubscriberConfig } from "./subscriber-config.js";
export { DpeServer, type ServerEvent, type ServerParts } from "./dpe-server.js";
export { SERVER_SCHEMA, type ServerConfig } from "./server-config.js";
