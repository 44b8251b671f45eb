export { recordsOf } from "./dpe2-requests.js";
export type { SubscriberConfig } from "./subscriber-config.js";
export { DpeServer, type ServerParts } from "./dpe-server.js";
export type { ServerEvent } from "./server-event.js";
export { SERVER_SCHEMA, type ServerConfig } from "./server-config.js";
export type { FleetAnswer } from "./fleet-requests.js";
export { followFleet, type LiveEvent } from "./live-event.js";
export { type HttpConfig, isLoopback, type MqttConfig, type OperationConfig } from "./operation-config.js";
export type { NewSubscriber } from "./subscriber-directory.js";
