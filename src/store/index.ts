export type { AuditEntry } from "./audit-log.js";
export type { Backend, Change, Message } from "./backend.js";
export { checkStore } from "./check.js";
export { decodeRow, encodeRow } from "./codec.js";
export type { Device, DeviceSecurity } from "./device.js";
export { StoreError } from "./errors.js";
export type { Outbox, OutboxEntry } from "./outbox.js";
export type { QueuedRequest } from "./requests.js";
export { upgradeSchema } from "./schema.js";
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
