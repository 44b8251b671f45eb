export {
  type AccountingCounters,
  type AccountingEvent,
  type AccountingLimits,
  type AccountingOptions,
  AccountingServer,
  DEFAULT_ACCOUNTING_LIMITS,
  type RadiusClient,
  type RadiusSource,
  type SilenceReason,
} from "./accounting-server.js";
export {
  type AccountingRecord,
  type AccountingStatus,
  IDENTITY_ATTRIBUTES,
  type IdentityAttribute,
  readAccountingRecord,
} from "./accounting-record.js";
export { accountingResponse, checkRequestAuthenticator } from "./authenticator.js";
export { RadiusError, type RadiusErrorCode } from "./errors.js";
export { decodePacket, encodePacket, RADIUS_CODE, type RadiusAttribute, type RadiusPacket } from "./packet.js";
export { RadiusListener } from "./radius-listener.js";
export { listenForAccounting, RADIUS_SCHEMA, type RadiusConfig } from "./radius-config.js";
export { subscriberIdentityBlock } from "./subscriber-identity-block.js";
