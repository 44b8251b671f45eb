import { readFileSync } from "node:fs";
import { CONTENT_FORMAT, type CoapClientOptions, type Method, type RequestInit } from "#api/index.js";
import { CoapError, decomposeUri } from "#coap/index.js";
import { type Command, parseWords } from "./command.js";
import { UsageError } from "./exit.js";

/** The words of `dpe get` and its like, with the flag letters of libcoap's coap-client where they mean the same. */
export interface CoapWords {
  readonly uri: string;
  readonly method: Method;
  readonly init: RequestInit & CoapClientOptions;
  /** The file to write the payload to; undefined: standard output. */
  readonly output: string | undefined;
  /** How long to observe, in seconds; Infinity: until a signal. undefined: one request. */
  readonly observeSeconds: number | undefined;
  readonly isVerbose: boolean;
  readonly endsWithNewline: boolean;
}

/** @throws UsageError */
export function coapWords(command: Command, method: Method, isObserve: boolean, words: readonly string[]): CoapWords {
  const { values, positionals } = parseWords(command, words, OPTIONS, { maxPositionals: 1 });
  const fail = (what: string): never => {
    throw new UsageError(`dpe ${command.name}: ${what}\nusage: dpe ${command.name} ${command.synopsis}`);
  };
  const number = (name: string, text: string, min: number, max: number): number => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isInteger(value) || value < min || value > max)
      return fail(`${name} takes a whole number from ${min} to ${max}, not ${text}`);
    return value;
  };
  const file = (name: string, path: string): Buffer => {
    try {
      return readFileSync(path === "-" ? 0 : path);
    } catch (error) {
      return fail(
        `${name} ${path} cannot be read: ${error instanceof Error && "code" in error ? String(error.code) : ""}`,
      );
    }
  };
  const [uri = fail("a URI is missing")] = positionals;
  try {
    decomposeUri(uri);
  } catch (error) {
    if (error instanceof CoapError) fail(error.message);
    throw error;
  }
  const { payload, file: payloadFile, ca, roots, identity, key, certificate } = values;
  if (payload !== undefined && payloadFile !== undefined) fail("-e and -f exclude each other");
  if ((identity === undefined) !== (key === undefined)) fail("-u and -k go together");
  if (ca !== undefined && roots !== undefined)
    fail("-C and -R exclude each other: both name the anchors that are trusted");
  const seconds = values.seconds === undefined ? undefined : number("-s", values.seconds, 1, 86_400 * 365);
  const block =
    values.block === undefined
      ? undefined
      : (blockBytes(values.block) ?? fail("-b takes 16, 32, 64, 128, 256, 512 or 1024"));
  const anchors = ca ?? roots;
  const body = payloadFile === undefined ? payload && unescaped(payload) : file("-f", payloadFile);
  return {
    uri,
    method,
    init: {
      method,
      ...(body === undefined ? {} : { payload: body }),
      ...(values.type === undefined
        ? {}
        : { contentFormat: formatNumber(values.type) ?? fail(`-t ${values.type} is no content format`) }),
      ...(values.accept === undefined
        ? {}
        : { accept: formatNumber(values.accept) ?? fail(`-A ${values.accept} is no content format`) }),
      ...(block === undefined ? {} : { blockBytes: block, responseBlockBytes: block }),
      timeoutMs: number("-B", values.break, 1, 86_400) * 1000,
      confirmable: !values.non,
      options: (values.option ?? []).map(
        (text) => optionOf(text) ?? fail(`-O takes num,text or num,0xhex, not ${text}`),
      ),
      ...(identity === undefined || key === undefined ? {} : { psk: { identity, key } }),
      ...(anchors === undefined ? {} : { ca: file(ca === undefined ? "-R" : "-C", anchors).toString() }),
      ...(certificate === undefined ? {} : { certificate: file("-c", certificate).toString() }),
      ...(values["private-key"] === undefined ? {} : { privateKey: file("-j", values["private-key"]).toString() }),
      ...(values["no-verify"] ? { dangerSkipVerification: true } : {}),
    },
    output: values.output === "-" ? undefined : values.output,
    observeSeconds: seconds ?? (isObserve ? Infinity : undefined),
    isVerbose: number("-v", values.verbosity, 0, 9) >= VERBOSE,
    endsWithNewline: values.newline,
  };
}

/** What the flags mean, for `--help`. */
export const COAP_FLAGS = `  -u ID -k KEY   pre-shared key and its identity         -c, -j FILE  own certificate, private key (PEM)
  -C, -R FILE    certificates that are trusted (PEM)     -n           check no certificate (dangerous)
  -e TEXT        payload, percent-encoded                -f FILE      payload from a file, - for standard input
  -t, -A TYPE    content format sent, wanted: a number, or a name such as cbor, json, senml+cbor
  -O NUM,TEXT    another option, TEXT or 0x and hex      -b SIZE      largest block, 16 to 1024
  -N             Non-confirmable                         -B SECONDS   give up after, default 90
  -o FILE        write the payload there                 -w           a newline after it
  -s SECONDS     observe for so long                     -v LEVEL     6 or more: show codes and options`;

function blockBytes(text: string): number | undefined {
  const value = Number(text);
  return [16, 32, 64, 128, 256, 512, 1024].includes(value) ? value : undefined;
}

function formatNumber(text: string): number | undefined {
  if (/^[0-9]+$/.test(text)) return Number(text) <= 0xffff ? Number(text) : undefined;
  const names = Object.entries(CONTENT_FORMAT);
  return (names.find(([name]) => name === text) ?? names.find(([name]) => name.endsWith(`/${text}`)))?.[1];
}

function optionOf(text: string): readonly [number, Uint8Array | string] | undefined {
  const [, number, value = ""] = /^([0-9]+)(?:,(.*))?$/s.exec(text) ?? [];
  if (number === undefined || Number(number) > 0xffff) return undefined;
  if (!value.startsWith("0x")) return [Number(number), value];
  const hex = value.slice(2);
  return hex.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(hex) ? [Number(number), Buffer.from(hex, "hex")] : undefined;
}

/** Percent-encoding stands for bytes here, not for text. */
function unescaped(text: string): Uint8Array {
  return Buffer.from(
    text
      .replaceAll(/[^\x20-\x7e]|%(?![0-9a-fA-F]{2})/gu, (part) => encodeURIComponent(part))
      .replaceAll(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    "latin1",
  );
}

const OPTIONS = {
  identity: { type: "string", short: "u" },
  key: { type: "string", short: "k" },
  certificate: { type: "string", short: "c" },
  "private-key": { type: "string", short: "j" },
  ca: { type: "string", short: "C" },
  roots: { type: "string", short: "R" },
  "no-verify": { type: "boolean", short: "n", default: false },
  payload: { type: "string", short: "e" },
  file: { type: "string", short: "f" },
  type: { type: "string", short: "t" },
  accept: { type: "string", short: "A" },
  option: { type: "string", short: "O", multiple: true },
  block: { type: "string", short: "b" },
  break: { type: "string", short: "B", default: "90" },
  non: { type: "boolean", short: "N", default: false },
  output: { type: "string", short: "o" },
  seconds: { type: "string", short: "s" },
  verbosity: { type: "string", short: "v", default: "3" },
  newline: { type: "boolean", short: "w", default: false },
} as const;

/** libcoap shows messages from this level on. */
const VERBOSE = 6;
