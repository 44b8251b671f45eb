import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import * as z from "zod";
import { codeOf } from "#errors/index.js";
import { refuse, type Refusal } from "./refusal.js";
import { Secret } from "./secret.js";
import { surroundings } from "./surroundings.js";

/**
 * A secret: `file:PATH` (relative to the configuration file; one line end at its end is dropped), `env:NAME`,
 * `hex:…`, or plain text (`text:…` where the text itself begins with one of these words). A file that its group or
 * others may use is refused. No message shows the value.
 */
export function secret(options: SecretOptions = {}): z.ZodType<Secret, unknown> {
  return secretFrom(options, decodeSecret, "a secret: file:PATH, env:NAME, hex:… or text");
}

/** A whole file that is a secret, such as a private key in PEM, given by its path alone; checked as in `secret`. */
export function secretFile(options: SecretOptions = {}): z.ZodType<Secret, unknown> {
  const pathOf = (value: string): string => resolve(surroundings().directory, value);
  return secretFrom(options, (value) => readSecretFile(value, false), "the path of a secrets file", pathOf);
}

export interface SecretOptions {
  /** The least number of bytes. Default 1. */
  readonly minBytes?: number;
  /** The greatest number of bytes. Default 65536; also bounds what is read from a file. */
  readonly maxBytes?: number;
}

function secretFrom(
  options: SecretOptions,
  decode: (value: string) => Uint8Array | Refusal,
  expected: string,
  pathOf: (value: string) => string | undefined = () => undefined,
): z.ZodType<Secret, unknown> {
  const { minBytes = 1, maxBytes = MAX_SECRET_BYTES } = options;
  return z.codec(z.unknown(), z.instanceof(Secret), {
    decode: (value, context) => {
      // A number is refused, not converted: 0123 and 1e3 would silently become another password.
      const decoded =
        typeof value === "string"
          ? decode(value)
          : typeof value === "number"
            ? { code: "CONFIG_WRONG_TYPE" as const, expected, hint: "put it in quotes" }
            : { code: "CONFIG_WRONG_TYPE" as const, expected };
      const refusal =
        decoded instanceof Uint8Array && (decoded.length < minBytes || decoded.length > maxBytes)
          ? { problem: sizeProblem(decoded.length, minBytes, maxBytes) }
          : decoded;
      if (refusal instanceof Uint8Array) return new Secret(refusal, pathOf(String(value)));
      refuse(context, { ...refusal, isConcealed: true });
      return z.NEVER;
    },
    // zod first encodes every alternative of a union without its checks, so this may be another value or none.
    encode: (value: unknown) => (value instanceof Secret ? value.toString() : undefined),
  });
}

function sizeProblem(sizeBytes: number, minBytes: number, maxBytes: number): string {
  if (sizeBytes === 0) return "the secret is empty";
  return sizeBytes < minBytes
    ? `the secret has ${sizeBytes} bytes, fewer than the least of ${minBytes}`
    : `the secret has more than ${maxBytes} bytes`;
}

function decodeSecret(value: string): Uint8Array | Refusal {
  const match = /^(file|env|hex|text):(.*)$/s.exec(value);
  const rest = match?.[2] ?? "";
  const prefix = match?.[1];
  if (prefix === "file") return readSecretFile(rest, true);
  if (prefix === "env") return readVariable(rest);
  if (prefix === "hex") return decodeHex(rest);
  return new TextEncoder().encode(prefix === "text" ? rest : value);
}

function readVariable(name: string): Uint8Array | Refusal {
  if (!/^[A-Za-z_]\w*$/.test(name)) return { expected: "the name of an environment variable after env:" };
  const value = surroundings().environment[name];
  if (value !== undefined) return new TextEncoder().encode(value);
  return { code: "CONFIG_SECRET_MISSING", problem: `the environment variable ${name} is not set` };
}

function decodeHex(digits: string): Uint8Array | Refusal {
  const compact = digits.replaceAll(/[\s:]/g, "");
  if (!/^(?:[0-9A-Fa-f]{2})*$/.test(compact)) {
    return { problem: "hex: must be followed by pairs of hexadecimal digits" };
  }
  return Uint8Array.from(compact.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function readSecretFile(name: string, dropsLineEnd: boolean): Uint8Array | Refusal {
  if (name === "" || name.includes("\0")) return { expected: "the path of a secrets file" };
  const path = resolve(surroundings().directory, name);
  surroundings().onFile?.(path);
  let descriptor: number | undefined;
  try {
    // Checked on the open file, so that it cannot be exchanged between check and reading; never waits on a FIFO.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) return { code: "CONFIG_SECRET_MISSING", problem: `${path} is not a file` };
    if (process.platform !== "win32" && (stat.mode & GROUP_AND_OTHERS) !== 0) {
      const mode = (stat.mode & 0o777).toString(8).padStart(3, "0");
      return {
        code: "CONFIG_SECRET_EXPOSED",
        problem: `the secrets file ${path} is open to other users (mode ${mode})`,
        hint: `run: chmod 600 ${path}`,
      };
    }
    if (stat.size > MAX_SECRET_BYTES) return { problem: `the secrets file ${path} has more than 65536 bytes` };
    const bytes = new Uint8Array(readFileSync(descriptor));
    return dropsLineEnd ? withoutLineEnd(bytes) : bytes;
  } catch (error) {
    return { code: "CONFIG_SECRET_MISSING", problem: `the secrets file ${path} ${reasonOf(error)}` };
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function reasonOf(error: unknown): string {
  const code = codeOf(error) ?? "unknown error";
  if (code === "ENOENT") return "does not exist";
  return code === "EACCES" ? "may not be read by this user" : `cannot be read (${code})`;
}

function withoutLineEnd(bytes: Uint8Array): Uint8Array {
  if (bytes.at(-1) !== LINE_FEED) return bytes;
  return bytes.subarray(0, bytes.at(-2) === CARRIAGE_RETURN ? -2 : -1);
}

const MAX_SECRET_BYTES = 65_536;
const GROUP_AND_OTHERS = 0o077;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
