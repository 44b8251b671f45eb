export { checkFirmware, type Verdict } from "./conformance.js";
export { printable } from "./diagnostics.js";
export { BridgeError, type BridgeErrorCode } from "./errors.js";
export { FirmwareBridge, type FirmwareBridgeOptions, type FirmwareEvent } from "./firmware-bridge.js";
export type { FirmwareProperty } from "./firmware-properties.js";
export type { FirmwareReading } from "./reading.js";
export { checkPort, DEFAULT_BAUD, openWire, type Wire } from "./wire.js";
