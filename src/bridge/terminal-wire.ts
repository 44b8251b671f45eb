import { closeSync, constants, openSync } from "node:fs";
import { ReadStream } from "node:tty";
import { messageOf } from "#errors/index.js";
import { BridgeError } from "./errors.js";
import type { Wire } from "./wire.js";

/** A pty as a wire, without line editing or echo. @throws BridgeError BRIDGE_NO_PORT. */
export function openTerminal(path: string): Promise<Wire> {
  return new Promise((resolve, reject) => {
    let descriptor: number | undefined;
    try {
      // Not to become the controlling terminal of this process, which would end with it.
      descriptor = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
      const stream = new ReadStream(descriptor);
      stream.setRawMode(true);
      resolve(wireOf(stream, path));
    } catch (error) {
      if (descriptor !== undefined) closeSync(descriptor);
      const why = messageOf(error);
      reject(new BridgeError("BRIDGE_NO_PORT", `${path}: ${why}`, { cause: error }));
    }
  });
}

function wireOf(stream: ReadStream, name: string): Wire {
  let reason = "the other side closed it";
  stream.on("error", (error) => {
    reason = error.message;
    stream.destroy();
  });
  stream.once("end", () => stream.destroy());
  const closed = new Promise<string>((settle) => stream.once("close", () => settle(reason)));
  const wire: Wire = {
    name,
    onBytes: () => undefined,
    closed,
    write: (bytes) => void (stream.writable && stream.write(bytes)),
    close: async () => {
      stream.destroy();
      await closed;
    },
  };
  stream.on("data", (bytes: Uint8Array) => wire.onBytes(bytes));
  return wire;
}
