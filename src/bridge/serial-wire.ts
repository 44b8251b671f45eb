import { SerialPort } from "serialport";
import { BridgeError } from "./errors.js";
import type { Wire } from "./wire.js";

/** A serial port, 8N1, which is this process's alone. @throws BridgeError BRIDGE_NO_PORT. */
export function openSerialPort(path: string, baudRate: number): Promise<Wire> {
  return new Promise((resolve, reject) => {
    const port = new SerialPort({ path, baudRate, lock: true }, (error) => {
      if (error !== null) {
        reject(new BridgeError("BRIDGE_NO_PORT", `${path}: ${error.message}`, { cause: error }));
        return;
      }
      let reason = "it was unplugged";
      port.on("error", (fault) => (reason = fault.message));
      const closed = new Promise<string>((settle) => port.once("close", () => settle(reason)));
      const wire: Wire = {
        name: path,
        onBytes: () => undefined,
        closed,
        write: (bytes) => void (port.isOpen && port.write(bytes)),
        close: async () => {
          if (port.isOpen) port.close();
          await closed;
        },
      };
      port.on("data", (bytes: Uint8Array) => wire.onBytes(bytes));
      resolve(wire);
    });
  });
}
