import { readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { BridgeError } from "./errors.js";
import { openSocket } from "./socket-wire.js";
import { openTerminal } from "./terminal-wire.js";

/**
 * Opens a port:
 *
 * | name | opens |
 * |---|---|
 * | `/dev/ttyACM0`, any path | the serial port; a pty, by itself or behind a link, as one without a rate |
 * | `by-id:*Arduino*` | the one port in /dev/serial/by-id whose name matches, `*` for any characters |
 * | `unix:/run/mcu.sock` | a Unix socket |
 * | `tcp:127.0.0.1:4000` | a TCP connection, such as a serial server's; `[::1]:4000` for IPv6 |
 *
 * @throws BridgeError BRIDGE_NO_PORT, BRIDGE_AMBIGUOUS_PORT, BRIDGE_BAD_PORT.
 */
export async function openWire(port: string, options: WireOptions = {}): Promise<Wire> {
  const { baud = DEFAULT_BAUD } = options;
  if (port.startsWith(UNIX)) return openSocket({ path: port.slice(UNIX.length) }, port);
  if (port.startsWith(TCP)) return openSocket(tcpAddress(port), port);
  const path = port.startsWith(BY_ID) ? portById(port.slice(BY_ID.length), options.byIdFolder) : port;
  if (isPseudoTerminal(path)) return openTerminal(path);
  // Its native code is loaded only where there is a port to open.
  const { openSerialPort } = await import("./serial-wire.js");
  return openSerialPort(path, baud);
}

/** Bytes to and from one microcontroller. */
export interface Wire {
  /** What was opened, for people. */
  readonly name: string;
  onBytes: (bytes: Uint8Array) => void;
  /** Fulfilled when the other side is gone or the wire was closed, with the reason. */
  readonly closed: Promise<string>;
  write(bytes: Uint8Array): void;
  close(): Promise<void>;
}

export interface WireOptions {
  /** Default 115200; of serial ports only. */
  readonly baud?: number;
  /** Default /dev/serial/by-id. */
  readonly byIdFolder?: string;
}

/** Whether `port` can be the name of one. @throws BridgeError BRIDGE_BAD_PORT. */
export function checkPort(port: string): void {
  if (port.startsWith(TCP)) tcpAddress(port);
  else if (port.startsWith(UNIX) ? port.length === UNIX.length : port.startsWith(BY_ID) && port.length === BY_ID.length)
    throw new BridgeError("BRIDGE_BAD_PORT", `nothing follows ${port}`);
  else if (!port.startsWith(UNIX) && !port.startsWith(BY_ID) && !port.startsWith("/") && !/^COM\d+$/.test(port))
    throw new BridgeError(
      "BRIDGE_BAD_PORT",
      `a port is a path such as /dev/ttyACM0, by-id:PATTERN, unix:PATH or tcp:HOST:PORT, not ${port}`,
    );
}

function tcpAddress(port: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits] = /^tcp:(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(port) ?? [];
  const host = bracketed ?? plain;
  const number = Number(digits);
  if (host === undefined || number < 1 || number > 65_535)
    throw new BridgeError("BRIDGE_BAD_PORT", `a TCP port is tcp:HOST:PORT, not ${port}`);
  return { host, port: number };
}

function portById(pattern: string, folder: string = BY_ID_FOLDER): string {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    throw new BridgeError("BRIDGE_NO_PORT", `no serial port is plugged in: ${folder} is not there`, { cause: error });
  }
  const parts = pattern.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  const expected = new RegExp(`^${parts.join(".*")}$`);
  const found = names.filter((name) => expected.test(name)).toSorted();
  const [only, ...others] = found;
  if (only === undefined) throw new BridgeError("BRIDGE_NO_PORT", `no port in ${folder} is named ${pattern}`);
  if (others.length > 0)
    throw new BridgeError("BRIDGE_AMBIGUOUS_PORT", `${pattern} is ${found.length} ports: ${found.join(", ")}`);
  return join(folder, only);
}

/** Unix 98 ptys live in /dev/pts; a path that is not there yet is none. */
function isPseudoTerminal(path: string): boolean {
  try {
    return realpathSync(path).startsWith("/dev/pts/");
  } catch (error) {
    throw new BridgeError("BRIDGE_NO_PORT", `${path} is not there`, { cause: error });
  }
}

const UNIX = "unix:";
const TCP = "tcp:";
const BY_ID = "by-id:";
const BY_ID_FOLDER = "/dev/serial/by-id";
export const DEFAULT_BAUD: number = 115_200;
