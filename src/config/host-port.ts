import * as z from "zod";
import { refuse } from "./refusal.js";

/** A UDP or TCP port, 0–65535; 0 asks the system for a free one. */
export function port(): z.ZodType<number, unknown> {
  return z.codec(z.unknown(), z.number(), {
    decode: (value, context) => {
      if (isPort(value)) return value;
      const isNumber = typeof value === "number";
      refuse(context, { code: isNumber ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE", expected: "a port (0–65535)" });
      return z.NEVER;
    },
    encode: (value) => value,
  });
}

/** A host name or an IPv4 or IPv6 address, the latter without brackets. */
export function host(): z.ZodType<string, unknown> {
  return z.codec(z.unknown(), z.string(), {
    decode: (value, context) => {
      if (isHost(value)) return value;
      refuse(context, {
        code: typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
        expected: "a host name or an IP address",
      });
      return z.NEVER;
    },
    encode: (value) => value,
  });
}

/** `127.0.0.1:8080`, `[::1]:8080`, `gateway.example:8080`, or a mapping `{ host: …, port: … }`. */
export function hostPort(options: HostPortOptions = {}): z.ZodType<HostPort, unknown> {
  const asText = z.codec(z.unknown(), z.object({ host: z.string(), port: z.number() }), {
    decode: (value, context) => {
      const decoded = typeof value === "string" ? decodeHostPort(value, options.defaultPort) : undefined;
      if (decoded !== undefined) return decoded;
      refuse(context, {
        code: typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
        expected: "HOST:PORT (an IPv6 address in brackets)",
      });
      return z.NEVER;
    },
    encode: (value) => `${value.host.includes(":") ? `[${value.host}]` : value.host}:${value.port}`,
  });
  const portKey = options.defaultPort === undefined ? port() : port().default(options.defaultPort);
  return z.union([asText, z.strictObject({ host: host(), port: portKey })]);
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface HostPortOptions {
  /** The port where none is written. Default: a port must be written. */
  readonly defaultPort?: number;
}

function decodeHostPort(text: string, defaultPort: number | undefined): HostPort | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const name = match?.[1] ?? match?.[2];
  const number = match?.[3] === undefined ? defaultPort : Number(match[3]);
  if (!isHost(name) || !isPort(number) || (match?.[1] !== undefined && !name.includes(":"))) return undefined;
  return { host: name, port: number };
}

function isPort(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 65_535;
}

/**
 * Names by RFC 1123 §2.1 (underscores let through, as resolvers do) and addresses that the URL parser takes; a name
 * whose last label is a number is an address, so that 1.2.3.400 is refused and not looked up.
 */
export function isHost(value: unknown): value is string {
  if (typeof value !== "string" || value.length > 253) return false;
  if (value.includes(":")) return /^[0-9A-Fa-f:.]+(?:%[\w.-]+)?$/.test(value) && isUrlHost(`[${value.split("%")[0]}]`);
  const labels = value.replace(/\.$/, "").split(".");
  if (/^\d+$/.test(labels.at(-1) ?? "")) return /^(?:\d{1,3}\.){3}\d{1,3}$/.test(value) && isUrlHost(value);
  return labels.every((label) => /^(?!-)[A-Za-z0-9_-]{1,63}(?<!-)$/.test(label));
}

function isUrlHost(text: string): boolean {
  return URL.canParse(`http://${text}/`);
}
