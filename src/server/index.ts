export { DpeServer, recordsOf, type ServerEvent, type ServerParts } from "./dpe-server.js";
export { SERVER_SCHEMA, type ServerConfig } from "./server-config.js";
