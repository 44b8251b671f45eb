export { DpeServer, recordsOf, type ServerEvent } from "./dpe-server.js";
export { SERVER_SCHEMA, type ServerConfig } from "./server-config.js";
