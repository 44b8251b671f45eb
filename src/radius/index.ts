export {
  type AccountingEvent,
  type AccountingOptions,
  AccountingServer,
  type RadiusSource,
} from "./accounting-server.js";
export { RadiusError } from "./errors.js";
export { decodePacket } from "./packet.js";
export { RadiusListener } from "./radius-listener.js";
export { listenForAccounting, RADIUS_SCHEMA, type RadiusConfig } from "./radius-config.js";
export { subscriberIdentityBlock } from "./subscriber-identity-block.js";
