export { type AuditEntry, type AuditFields, AuditLog, type AuditPage, type AuditSource } from "./audit-log.js";
export { type Backend, type BackendKind, type Change, type Message, type Place, SPACES } from "./backend.js";
export { checkStore, type StoreFault } from "./check.js";
export { decodeRow, encodeRow } from "./codec.js";
export type { Device, DeviceSecurity, EndCause, HeardRow, InterfaceSecurity } from "./device.js";
export { StoreError, type StoreErrorCode } from "./errors.js";
export type { Outbox, OutboxEntry } from "./outbox.js";
export type { HistoryQuery } from "./properties.js";
export type { Registered, Registrations, Reported } from "./registrations.js";
export type { IncomingReport } from "./report-planner.js";
export type { QueuedRequest } from "./requests.js";
export { type SchemaStep, schemaOf, upgradeSchema } from "./schema.js";
export {
  DEFAULT_STORE_LIMITS,
  openBackend,
  Store,
  type StoreLimits,
  type StoreLocation,
  type StoreOptions,
} from "./store.js";
export type { SubscriberRow } from "./subscribers.js";
export type { OnHealth, StoreHealth } from "./watched-backend.js";
export { exportStore, importStore } from "./transfer.js";
export { Journal } from "./journal.js";
