import { createWriteStream, type WriteStream } from "node:fs";
import { CoapClient, CoapResponse, CODE, CONTENT_FORMAT, formatCode, type Method, OPTION } from "#api/index.js";
import { decodeCbor } from "#cbor/index.js";
import { authErrorOf, SecurityError } from "#security/index.js";
import { decodePack } from "#senml/index.js";
import { pause } from "#waiting/index.js";
import { blocksFrom } from "./block-chain.js";
import { COAP_FLAGS } from "./coap-flags.js";
import { coapWords, type CoapWords } from "./coap-words.js";
import type { Command } from "./command.js";
import { KeepAlive } from "./keep-alive.js";
import { untilSignal } from "./signals.js";

/** `dpe get`, `post`, `put`, `delete`, `fetch`, `patch`, `ipatch` and `observe`: a CoAP client for trying things. */
export function coapCommand(name: string): Command {
  const [method, summary, words] = COMMANDS[name] ?? GET;
  return commandOf(name, method, summary, `dpe ${name} ${words}`);
}

/** Of each command: its method, what it does, and an example. */
const GET = [
  "GET",
  "ask a CoAP server for a resource",
  "-u fleet -k secret coaps://127.0.0.1/.well-known/core",
] as const;
const COMMANDS: Readonly<Record<string, readonly [Method, string, string]>> = {
  get: GET,
  post: ["POST", "send to a resource", "-e 'a message' coap://127.0.0.1/log"],
  put: ["PUT", "store at a resource", "-e 22.5 coap://127.0.0.1/temperature"],
  delete: ["DELETE", "delete a resource", "coap://127.0.0.1/alarms/7"],
  fetch: [
    "FETCH",
    "ask for what the payload names",
    '-t senml-etch+json -e \'[{"n":"uptime"}]\' coap://127.0.0.1/properties',
  ],
  patch: ["PATCH", "change a part of a resource", "-t json -e '{\"step\":1}' coap://127.0.0.1/counter"],
  ipatch: ["iPATCH", "change a part, the same when done twice", "-t json -e '{\"on\":true}' coap://127.0.0.1/lamp"],
  observe: ["GET", "show a resource whenever it changes, until a signal", "-s 60 coap://127.0.0.1/temperature"],
};

/** The server answered with an error; it was printed already. */
export class ErrorResponse extends Error {
  override readonly name = "ErrorResponse";
}

function commandOf(name: string, method: Method, summary: string, example: string): Command {
  const isObserve = name === "observe";
  const command: Command = {
    name,
    synopsis: "[FLAGS] URI",
    summary,
    help: COAP_FLAGS,
    example,
    ...(isObserve ? { form: "URI" } : {}),
    run: (words) => run(coapWords(command, method, isObserve, words)),
  };
  return command;
}

async function run(words: CoapWords): Promise<void> {
  const client = new CoapClient(words.init);
  const keepAlive = new KeepAlive(client, words.uri, words.keepAliveSeconds, words.timeoutMs);
  const output = new PayloadOutput(words);
  try {
    await Promise.race([ask(client, words, output, () => keepAlive.heard()), keepAlive.failed]);
  } finally {
    keepAlive.stop();
    await output.close();
    await client.close();
  }
}

async function ask(client: CoapClient, words: CoapWords, output: PayloadOutput, heard: () => void): Promise<void> {
  const { uri, init, observeSeconds, fromBlock, isStreamed, count } = words;
  if (observeSeconds !== undefined) return observe(client, words, observeSeconds, output, heard);
  for (let time = 1; time <= count; time++) {
    if (time > 1) await pause(REPEAT_DELAY_MS);
    if (isStreamed) {
      await showStreamed(client, words, output, heard);
    } else if (fromBlock !== undefined) {
      for await (const response of blocksFrom(client, uri, init, fromBlock)) {
        heard();
        await show(response, words, output, false);
      }
      await output.end();
    } else {
      const response = await client.request(uri, init);
      heard();
      await show(response, words, output);
    }
  }
}

async function observe(
  client: CoapClient,
  words: CoapWords,
  seconds: number,
  output: PayloadOutput,
  heard: () => void,
): Promise<void> {
  const ended = new AbortController();
  const timer = seconds === Infinity ? undefined : setTimeout(() => ended.abort(), seconds * 1000);
  void untilSignal().then(() => ended.abort());
  try {
    for await (const response of client.observe(words.uri, { ...words.init, signal: ended.signal })) {
      heard();
      await show(response, words, output);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Each block is written before the next one is asked for. */
async function showStreamed(
  client: CoapClient,
  words: CoapWords,
  output: PayloadOutput,
  heard: () => void,
): Promise<void> {
  const { code, options, body, ok } = await client.stream(words.uri, words.init);
  heard();
  if (words.isVerbose) process.stderr.write(`${headOf({ code, options })}\n`);
  const pieces: Uint8Array[] = [];
  for await (const piece of body) {
    heard();
    if (ok) await output.write(piece);
    else pieces.push(piece);
  }
  refuse(new CoapResponse({ code, options, payload: Buffer.concat(pieces) }));
  await output.end();
}

/** @throws ErrorResponse, SecurityError for an error response. */
async function show(response: CoapResponse, words: CoapWords, output: PayloadOutput, isWhole = true): Promise<void> {
  if (words.isVerbose) process.stderr.write(`${headOf(response)} ${response.payload.length} bytes\n`);
  refuse(response);
  await output.write(words.output === undefined && isWhole ? printable(response) : response.payload);
  if (isWhole) await output.end();
}

/** @throws ErrorResponse, SecurityError for an error response. */
function refuse(response: CoapResponse): void {
  if (response.ok || response.code === CODE.Empty) return;
  const problem = response.problem();
  const texts = [problem?.title, problem?.detail].map((text) => (typeof text === "object" ? text.text : text));
  const message = [`${response.status} ${nameOf(response.code)}`, ...texts.filter((text) => text !== undefined)].join(
    ": ",
  );
  const authError = authErrorOf(response);
  if (authError !== undefined || response.code === CODE.Unauthorized)
    throw new SecurityError("SECURITY_AUTHENTICATION_REFUSED", message, authError === undefined ? {} : { authError });
  throw new ErrorResponse(message);
}

/** Where payloads go: one file for all of them, or standard output. */
class PayloadOutput {
  readonly #path: string | undefined;
  readonly #newline: string;
  #file: WriteStream | undefined;

  constructor({ output, endsWithNewline, observeSeconds }: CoapWords) {
    this.#path = output;
    // What is observed is told apart by lines.
    this.#newline = endsWithNewline || (observeSeconds !== undefined && output === undefined) ? "\n" : "";
  }

  /** Fulfilled when it is written: what reads it sets the pace. */
  async write(bytes: Uint8Array | string): Promise<void> {
    const to = this.#path === undefined ? process.stdout : (this.#file ??= fileAt(this.#path));
    await new Promise<void>((resolve, reject) =>
      to.write(bytes, (error) => (error === null || error === undefined ? resolve() : reject(error))),
    );
  }

  /** After each whole payload. */
  async end(): Promise<void> {
    if (this.#newline !== "") await this.write(this.#newline);
  }

  async close(): Promise<void> {
    const file = this.#file;
    if (file === undefined || file.destroyed) return;
    await new Promise<void>((resolve) => file.end(() => resolve()));
  }
}

/** Whoever writes learns of its errors. */
function fileAt(path: string): WriteStream {
  return createWriteStream(path).on("error", () => undefined);
}

/** CBOR as JSON, for a person; anything else as it is. */
function printable(response: CoapResponse): Uint8Array {
  const { payload, contentFormat } = response;
  try {
    if (contentFormat === CONTENT_FORMAT["application/senml+cbor"])
      return Buffer.from(jsonOf(decodePack(payload, "cbor", Date.now() / 1000)));
    if (contentFormat === CONTENT_FORMAT["application/cbor"])
      return Buffer.from(jsonOf(decodeCbor(payload, { maxDepth: 32, maxItems: payload.length, tags: "drop" })));
  } catch {
    // What it claims to be and is not is shown as it is.
  }
  return payload;
}

function jsonOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (part instanceof Map) return Object.fromEntries([...part].map(([key, inner]) => [String(key), inner]));
    return part instanceof Uint8Array ? Buffer.from(part).toString("hex") : part;
  });
}

function headOf(response: Pick<CoapResponse, "code" | "options">): string {
  const options = [...response.options].map(({ number, value }) => {
    const name = OPTION_NAMES.get(number) ?? String(number);
    return value.length === 0 ? name : `${name}:0x${Buffer.from(value).toString("hex")}`;
  });
  return [`${formatCode(response.code)} ${nameOf(response.code)}`, ...options].join(" ");
}

/** "Not Found" of `NotFound`. */
function nameOf(code: number): string {
  const name = Object.entries(CODE).find(([, value]) => value === code)?.[0] ?? "unknown";
  return name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ");
}

const OPTION_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(OPTION).map(([name, number]) => [number, name]),
);
/** As coap-client's -G. */
const REPEAT_DELAY_MS = 1000;
