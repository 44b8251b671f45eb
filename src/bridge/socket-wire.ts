import { connect, type NetConnectOpts } from "node:net";
import { BridgeError } from "./errors.js";
import type { Wire } from "./wire.js";

/** A Unix socket or TCP connection as a wire. @throws BridgeError BRIDGE_NO_PORT. */
export function openSocket(where: NetConnectOpts, name: string): Promise<Wire> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...where, noDelay: true });
    const fail = (error: Error): void => {
      socket.destroy();
      reject(new BridgeError("BRIDGE_NO_PORT", `${name}: ${error.message}`, { cause: error }));
    };
    socket.once("error", fail);
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail(new Error("it takes too long to connect")));
    socket.once("connect", () => {
      socket.setTimeout(0);
      socket.off("error", fail);
      let reason = "the other side closed it";
      socket.on("error", (error) => (reason = error.message));
      const closed = new Promise<string>((settle) => socket.once("close", () => settle(reason)));
      const wire: Wire = {
        name,
        onBytes: () => undefined,
        closed,
        write: (bytes) => void (socket.writable && socket.write(bytes)),
        close: async () => {
          socket.destroy();
          await closed;
        },
      };
      socket.on("data", (bytes) => wire.onBytes(bytes));
      resolve(wire);
    });
  });
}

const CONNECT_TIMEOUT_MS = 3000;
