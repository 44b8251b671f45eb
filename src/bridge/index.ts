export { checkFirmware } from "./conformance.js";
export { printable } from "./diagnostics.js";
export { BridgeError } from "./errors.js";
export { FirmwareBridge, type FirmwareEvent } from "./firmware-bridge.js";
export type { FirmwareReading } from "./reading.js";
export { checkPort, DEFAULT_BAUD, openWire } from "./wire.js";
