import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { CONTENT_FORMAT, type CoapClientOptions, type Method, OPTION, type RequestInit } from "#api/index.js";
import { CoapError, decomposeUri, ROUND_TRIP_ESTIMATIONS } from "#coap/index.js";
import { COAP_OPTIONS, REFUSED_FLAGS } from "./coap-flags.js";
import { type Command, misuse, parseWords } from "./command.js";
import { describeFile } from "./exit.js";
import { inFile, loadTrustAnchors } from "#x509/index.js";
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
    throw misuse(command, what);
  };
  refuseForeign(words, fail);
  const { values, positionals } = parseWords(command, words, COAP_OPTIONS, { maxPositionals: 1 });
  const [given = fail("a URI is missing")] = positionals;
  const uri = values.reliable ? reliable(given) : given;
  const target = schemeOf(uri, fail);
  const isStream = (values.proxy === undefined ? target : schemeOf(values.proxy, fail)).endsWith("+tcp");
  const number = numberReader(fail);
  const seconds = values.seconds === undefined ? undefined : number("-s", values.seconds, 1, MAX_OBSERVE_SECONDS);
  const observeSeconds = seconds ?? (isObserve ? Infinity : undefined);
  const body = bodyOf(values, method, fail);
  const [from, sizeBytes] = values.block === undefined ? [] : (blockOf(values.block) ?? fail(BLOCK_USAGE));
  const sum = blocksSum(values, fail);
  const isWholeRequest = observeSeconds === undefined && from === undefined;
  if (observeSeconds !== undefined && values.count !== undefined) fail("-G does not go with observing");
  const isReading = method === "GET" || method === "FETCH";
  if (from !== undefined && (!isReading || observeSeconds !== undefined || body !== undefined))
    fail("-b NUM,SIZE is for what is read by one request without a payload; a body is sent from its start");
  if (sum !== 3 && !isWholeRequest) fail("-L is for one request of whole bodies");
  if (isStream) refuseOfDatagrams(values, sum, fail);
  else if (values["max-message"] !== undefined) fail("-X is for TCP and TLS: a datagram's block is set by -b");
  const timeoutMs = number("-B", values.break, 1, 86_400) * 1000;
  return {
    uri,
    method,
    init: {
      ...messageOf(values, fail),
      ...clientOf(values, fail),
      method,
      ...(body === undefined ? {} : { payload: body }),
      ...(sizeBytes === undefined ? {} : { blockBytes: sizeBytes, responseBlockBytes: sizeBytes }),
      ...(sum === 0 ? { isBlockwise: false } : {}),
      ...((sum & Q_BLOCK) === 0 ? {} : { robust: true }),
      timeoutMs,
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

type Values = ReturnType<typeof parseWords<typeof COAP_OPTIONS>>["values"];
type Fail = (what: string) => never;

/** What the message says besides its method, its body and where to. */
function messageOf(values: Values, fail: Fail): RequestInit {
  const number = numberReader(fail);
  const format = (name: string, text: string): number =>
    formatNumber(text) ?? fail(`${name} ${text} is no content format`);
  const hopLimit = values["hop-limit"];
  const given = (values.option ?? []).map(
    (text) => optionOf(text) ?? fail(`-O takes num,text or num,0xhex, not ${text}`),
  );
  return {
    ...(values.type === undefined ? {} : { contentFormat: format("-t", values.type) }),
    ...(values.accept === undefined ? {} : { accept: format("-A", values.accept) }),
    confirmable: !values.non,
    omitsUriHost: values["no-uri-host"],
    options: hopLimit === undefined ? given : [...given, [OPTION.HopLimit, number("-H", hopLimit, 1, 255)] as const],
  };
}

/** How it gets there, and as whom. */
function clientOf(values: Values, fail: Fail): CoapClientOptions {
  const number = numberReader(fail);
  const { ca, roots, identity, key, certificate, proxy } = values;
  if ((identity === undefined) !== (key === undefined)) fail("-u and -k go together");
  if (ca !== undefined && roots !== undefined)
    fail("-C and -R exclude each other: both name the anchors that are trusted");
  const anchors = ca ?? roots;
  const privateKey = values["private-key"];
  const maxMessage = values["max-message"];
  const timeOuts = ROUND_TRIP_ESTIMATIONS.find((one) => one === values["time-outs"]);
  if (values["time-outs"] !== undefined && timeOuts === undefined)
    fail(`--time-outs takes ${ROUND_TRIP_ESTIMATIONS.join(", ")}, not ${values["time-outs"]}`);
  const token = values.token === undefined ? undefined : unescaped(values.token);
  if (token !== undefined && (token.length < 1 || token.length > 8)) fail("-T takes 1 to 8 bytes, percent-encoded");
  return {
    ...(identity === undefined || key === undefined ? {} : { psk: { identity, key } }),
    ...(anchors === undefined ? {} : { ca: anchorsOf(ca === undefined ? "-R" : "-C", anchors, fail) }),
    ...(certificate === undefined ? {} : { certificate: fileOf("-c", certificate, fail).toString() }),
    ...(privateKey === undefined ? {} : { privateKey: fileOf("-j", privateKey, fail).toString() }),
    ...(values["no-verify"] ? { dangerSkipVerification: true } : {}),
    local: localOf(values, fail),
    endsOnRefusal: true,
    ...(values["no-alpn"] ? { dangerSkipAlpn: true } : {}),
    ...(proxy === undefined ? {} : { proxy }),
    ...(token === undefined ? {} : { dangerFirstToken: token }),
    ...(maxMessage === undefined
      ? {}
      : { limits: { maxStreamMessageBytes: number("-X", maxMessage, MIN_MESSAGE_BYTES, 2 ** 32 - 1) } }),
    ...(timeOuts === undefined ? {} : { parameters: { roundTripEstimation: timeOuts } }),
  };
}

function localOf(values: Values, fail: Fail): NonNullable<CoapClientOptions["local"]> {
  const { "local-address": host, "local-port": port, loss } = values;
  if (host !== undefined && isIP(host) === 0) fail(`-a takes an IP address, not ${host}`);
  return {
    ...(host === undefined ? {} : { host }),
    ...(port === undefined ? {} : { port: numberReader(fail)("-p", port, 1, 65_535) }),
    ...(loss === undefined ? {} : { isLost: lossOf(loss) ?? fail(LOSS_USAGE) }),
  };
}

/** What has no meaning where the transport is reliable. */
function refuseOfDatagrams(values: Values, sum: number, fail: Fail): void {
  if ((sum & Q_BLOCK) !== 0) fail("-L with 4: Q-Block is for datagrams (RFC 9177 §4.1), and TCP loses none");
  if (values.loss !== undefined) fail("-l leaves out datagrams, and over TCP there are none");
  if (values.non) fail("-N is for datagrams: over TCP no message is Confirmable or not");
  if (values["time-outs"] !== undefined) fail("--time-outs is for datagrams: TCP has its own");
}

function bodyOf({ payload, file }: Values, method: Method, fail: Fail): Uint8Array | undefined {
  if (payload !== undefined && file !== undefined) fail("-e and -f exclude each other");
  const body = file === undefined ? payload : fileOf("-f", file, fail);
  if (body !== undefined && (method === "GET" || method === "DELETE")) fail(`${method} has no payload: -e, -f`);
  return typeof body === "string" ? unescaped(body) : body;
}

function blocksSum({ blocks }: Values, fail: Fail): number {
  const sum = blocks === undefined ? 3 : numberReader(fail)("-L", blocks, 0, 15);
  if ((sum & 8) !== 0) fail("-L with 8: which request for Q-Blocks bears M is for RFC 9177 §4.4 to say, and done so");
  if (sum !== 0 && (sum & 1) === 0) fail(`-L ${sum}: 2 and 4 are of blocks that are put together, so 1 is in the sum`);
  return sum;
}

type NumberReader = (name: string, text: string, min: number, max: number) => number;

function numberReader(fail: Fail): NumberReader {
  return (name, text, min, max) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isInteger(value) || value < min || value > max)
      return fail(`${name} takes a whole number from ${min} to ${max}, not ${text}`);
    return value;
  };
}

function fileOf(name: string, path: string, fail: Fail): Buffer {
  try {
    return readFileSync(path === "-" ? 0 : path);
  } catch (error) {
    return fail(`${name} ${describeFile(error, path)}`);
  }
}

/** @throws X509Error that begins with the name of the file. */
function anchorsOf(name: string, path: string, fail: Fail): string {
  const text = fileOf(name, path, fail).toString();
  inFile(path, () => loadTrustAnchors(text));
  return text;
}

/** What coap-client has and we have not is said so, rather than that it is unknown. */
function refuseForeign(words: readonly string[], fail: Fail): void {
  for (const word of words) {
    if (word === "--") return;
    const reason = /^-[A-Za-z]/.test(word) ? REFUSED_FLAGS[word.charAt(1)] : undefined;
    if (reason !== undefined) fail(reason);
  }
}

function reliable(uri: string): string {
  return uri.replace(/^(coaps?):/i, "$1+tcp:");
}

function schemeOf(uri: string, fail: Fail): string {
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
/** Of -L: libcoap's COAP_BLOCK_TRY_Q_BLOCK. */
const Q_BLOCK = 4;
/** Timers of Node.js end at 24.8 days, and a longer one at once. */
const MAX_OBSERVE_SECONDS = 24 * 86_400;
const MAX_BLOCK_NUMBER = 0xf_ffff;
/** Every peer may count on it (RFC 8323 §5.3.1). */
const MIN_MESSAGE_BYTES = 1152;
/** libcoap shows messages from this level on. */
const VERBOSE = 6;
