import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { CONTENT_FORMAT, type CoapClientOptions, type Method, OPTION, type RequestInit } from "#api/index.js";
import { CoapError, decomposeUri, ROUND_TRIP_ESTIMATIONS } from "#coap/index.js";
import { COAP_OPTIONS, REFUSED_FLAGS } from "./coap-flags.js";
import { type Command, parseWords } from "./command.js";
import { UsageError } from "./exit.js";
import { lossOf } from "./loss.js";

/** The words of `dpe get` and its like, as they are meant. */
export interface CoapWords {
  readonly uri: string;
  readonly method: Method;
  readonly init: RequestInit & CoapClientOptions;
  /** The file to write the payload to; undefined: standard output. */
  readonly output: string | undefined;
  /** How long to observe, in seconds; Infinity: until a signal. undefined: one request. */
  readonly observeSeconds: number | undefined;
  /** How often the request is sent, a second apart. */
  readonly count: number;
  /** How long an answer is waited for. */
  readonly timeoutMs: number;
  /** Silence after which the server is asked whether it lives; 0: never. */
  readonly keepAliveSeconds: number;
  /** Whether blocks are written as they come. */
  readonly isStreamed: boolean;
  /** The first block that is read, and their size; undefined: all. */
  readonly fromBlock: { readonly number: number; readonly sizeBytes: number } | undefined;
  readonly isVerbose: boolean;
  readonly endsWithNewline: boolean;
}

/** @throws UsageError */
export function coapWords(command: Command, method: Method, isObserve: boolean, words: readonly string[]): CoapWords {
  const fail = (what: string): never => {
    throw new UsageError(`dpe ${command.name}: ${what}\nusage: dpe ${command.name} ${command.synopsis}`);
  };
  refuseForeign(words, fail);
  const { values, positionals } = parseWords(command, words, COAP_OPTIONS, { maxPositionals: 1 });
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
  const [given = fail("a URI is missing")] = positionals;
  const uri = values.reliable ? reliable(given) : given;
  const { payload, file: payloadFile, ca, roots, identity, key, certificate } = values;
  const schemes = [uri, values.proxy].map((one) => one && schemeOf(one, fail));
  const scheme = schemes[1] ?? schemes[0] ?? "";
  const isStream = scheme.endsWith("+tcp");
  if (payload !== undefined && payloadFile !== undefined) fail("-e and -f exclude each other");
  const body = payloadFile === undefined ? payload && unescaped(payload) : file("-f", payloadFile);
  if (body !== undefined && (method === "GET" || method === "DELETE")) fail(`${method} has no payload: -e, -f`);
  if ((identity === undefined) !== (key === undefined)) fail("-u and -k go together");
  if (ca !== undefined && roots !== undefined)
    fail("-C and -R exclude each other: both name the anchors that are trusted");
  const seconds = values.seconds === undefined ? undefined : number("-s", values.seconds, 1, 86_400 * 365);
  const observeSeconds = seconds ?? (isObserve ? Infinity : undefined);
  if (observeSeconds !== undefined && values.count !== undefined) fail("-G does not go with observing");
  const [from, sizeBytes] = values.block === undefined ? [] : (blockOf(values.block) ?? fail(BLOCK_USAGE));
  const isReading = method === "GET" || method === "FETCH";
  if (from !== undefined && (!isReading || observeSeconds !== undefined || body !== undefined))
    fail("-b NUM,SIZE is for what is read by one request without a payload; a body is sent from its start");
  const sum = values.blocks === undefined ? undefined : number("-L", values.blocks, 0, 15);
  if (sum !== undefined && ![0, 1, 3, 5, 7].includes(sum)) fail(blocksFault(sum));
  const wantsQBlock = sum === 5 || sum === 7;
  if (wantsQBlock && isStream) fail("-L with 4: Q-Block is for datagrams (RFC 9177 §4.1), and TCP loses none");
  if (sum !== undefined && sum !== 3 && (observeSeconds !== undefined || from !== undefined))
    fail("-L is for one request of whole bodies");
  const loss = values.loss === undefined ? undefined : (lossOf(values.loss) ?? fail(LOSS_USAGE));
  if (loss !== undefined && isStream) fail("-l leaves out datagrams, and over TCP there are none");
  if (values["max-message"] !== undefined && !isStream) fail("-X is for TCP and TLS: a datagram's block is set by -b");
  if (values.non && isStream) fail("-N is for datagrams: over TCP no message is Confirmable or not");
  const address = values["local-address"];
  if (address !== undefined && isIP(address) === 0) fail(`-a takes an IP address, not ${address}`);
  const timeOuts = ROUND_TRIP_ESTIMATIONS.find((one) => one === values["time-outs"]);
  if (values["time-outs"] !== undefined && timeOuts === undefined)
    fail(`--time-outs takes ${ROUND_TRIP_ESTIMATIONS.join(", ")}, not ${values["time-outs"]}`);
  if (timeOuts !== undefined && isStream) fail("--time-outs is for datagrams: TCP has its own");
  const token = values.token === undefined ? undefined : unescaped(values.token);
  if (token !== undefined && (token.length < 1 || token.length > 8)) fail("-T takes 1 to 8 bytes, percent-encoded");
  const port = values["local-port"];
  const local = {
    ...(address === undefined ? {} : { host: address }),
    ...(port === undefined ? {} : { port: number("-p", port, 1, 65_535) }),
    ...(loss === undefined ? {} : { isLost: loss }),
  };
  const anchors = ca ?? roots;
  const timeoutMs = number("-B", values.break, 1, 86_400) * 1000;
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
      ...(sizeBytes === undefined ? {} : { blockBytes: sizeBytes, responseBlockBytes: sizeBytes }),
      ...(sum === 0 ? { isBlockwise: false } : {}),
      ...(wantsQBlock ? { robust: true } : {}),
      timeoutMs,
      confirmable: !values.non,
      omitsUriHost: values["no-uri-host"],
      options: [
        ...(values.option ?? []).map((text) => optionOf(text) ?? fail(`-O takes num,text or num,0xhex, not ${text}`)),
        ...(values["hop-limit"] === undefined
          ? []
          : [[OPTION.HopLimit, number("-H", values["hop-limit"], 1, 255)] as const]),
      ],
      ...(identity === undefined || key === undefined ? {} : { psk: { identity, key } }),
      ...(anchors === undefined ? {} : { ca: file(ca === undefined ? "-R" : "-C", anchors).toString() }),
      ...(certificate === undefined ? {} : { certificate: file("-c", certificate).toString() }),
      ...(values["private-key"] === undefined ? {} : { privateKey: file("-j", values["private-key"]).toString() }),
      ...(values["no-verify"] ? { dangerSkipVerification: true } : {}),
      local,
      ...(values["no-alpn"] ? { dangerSkipAlpn: true } : {}),
      ...(values.proxy === undefined ? {} : { proxy: values.proxy }),
      ...(token === undefined ? {} : { dangerFirstToken: token }),
      ...(values["max-message"] === undefined
        ? {}
        : { limits: { maxStreamMessageBytes: number("-X", values["max-message"], MIN_MESSAGE_BYTES, 2 ** 32 - 1) } }),
      ...(timeOuts === undefined ? {} : { parameters: { roundTripEstimation: timeOuts } }),
    },
    output: values.output === "-" ? undefined : values.output,
    observeSeconds,
    count: values.count === undefined ? 1 : number("-G", values.count, 1, 255),
    timeoutMs,
    keepAliveSeconds: number("-K", values["keep-alive"], 0, 86_400),
    isStreamed: sum === 1,
    fromBlock: from === undefined || sizeBytes === undefined ? undefined : { number: from, sizeBytes },
    isVerbose: number("-v", values.verbosity, 0, 9) >= VERBOSE,
    endsWithNewline: values.newline,
  };
}

/** What coap-client has and we have not is said so, rather than that it is unknown. */
function refuseForeign(words: readonly string[], fail: (what: string) => never): void {
  for (const word of words) {
    if (word === "--") return;
    const reason = /^-[A-Za-z]/.test(word) ? REFUSED_FLAGS[word.charAt(1)] : undefined;
    if (reason !== undefined) fail(reason);
  }
}

function reliable(uri: string): string {
  return uri.replace(/^(coaps?):/i, "$1+tcp:");
}

function schemeOf(uri: string, fail: (what: string) => never): string {
  try {
    return decomposeUri(uri).scheme;
  } catch (error) {
    if (error instanceof CoapError) return fail(error.message);
    throw error;
  }
}

function blockOf(text: string): readonly [number | undefined, number] | undefined {
  const [, number, size] = /^(?:([0-9]{1,7}),)?([0-9]+)$/.exec(text) ?? [];
  if (![16, 32, 64, 128, 256, 512, 1024].includes(Number(size)) || Number(number ?? 0) > MAX_BLOCK_NUMBER)
    return undefined;
  return [number === undefined ? undefined : Number(number), Number(size)];
}

function blocksFault(sum: number): string {
  if ((sum & 8) !== 0) return "-L with 8: which request for Q-Blocks bears M is for RFC 9177 §4.4 to say, and done so";
  return `-L ${sum}: 2 and 4 are of blocks that are put together, so 1 is in the sum`;
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

const BLOCK_USAGE = "-b takes 16, 32, 64, 128, 256, 512 or 1024, and before it a number and a comma";
const LOSS_USAGE = "-l takes numbers and ranges such as 1,4-6, or a percentage such as 20%";
const MAX_BLOCK_NUMBER = 0xf_ffff;
/** Every peer may count on it (RFC 8323 §5.3.1). */
const MIN_MESSAGE_BYTES = 1152;
/** libcoap shows messages from this level on. */
const VERBOSE = 6;
