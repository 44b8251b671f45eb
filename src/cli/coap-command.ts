import { createWriteStream } from "node:fs";
import { CoapClient, type CoapResponse, CODE, CONTENT_FORMAT, type Method, OPTION } from "#api/index.js";
import { decodeCbor } from "#cbor/index.js";
import { authErrorOf, SecurityError } from "#security/index.js";
import { decodePack } from "#senml/index.js";
import { COAP_FLAGS, coapWords, type CoapWords } from "./coap-words.js";
import type { Command } from "./command.js";
import { untilSignal } from "./signals.js";

/** `dpe get`, `post`, `put`, `delete`, `fetch`, `patch`, `ipatch` and `observe`: a CoAP client for trying things. */
export const coapCommands: readonly Command[] = [
  commandOf("get", "GET", "ask a CoAP server for a resource"),
  commandOf("post", "POST", "send to a resource"),
  commandOf("put", "PUT", "store at a resource"),
  commandOf("delete", "DELETE", "delete a resource"),
  commandOf("fetch", "FETCH", "ask for what the payload names"),
  commandOf("patch", "PATCH", "change a part of a resource"),
  commandOf("ipatch", "iPATCH", "change a part, the same when done twice"),
  commandOf("observe", "GET", "show a resource whenever it changes, until a signal"),
];

/** The server answered with an error; it was printed already. */
export class ErrorResponse extends Error {
  override readonly name = "ErrorResponse";
}

function commandOf(name: string, method: Method, summary: string): Command {
  const isObserve = name === "observe";
  const command: Command = {
    name,
    synopsis: "[FLAGS] URI",
    summary,
    help: COAP_FLAGS,
    run: (words) => run(coapWords(command, method, isObserve, words)),
  };
  return command;
}

async function run(words: CoapWords): Promise<void> {
  const client = new CoapClient(words.init);
  try {
    if (words.observeSeconds === undefined) await show(await client.request(words.uri, words.init), words);
    else await observe(client, words, words.observeSeconds);
  } finally {
    await client.close();
  }
}

async function observe(client: CoapClient, words: CoapWords, seconds: number): Promise<void> {
  const ended = new AbortController();
  const timer = seconds === Infinity ? undefined : setTimeout(() => ended.abort(), seconds * 1000);
  void untilSignal().then(() => ended.abort());
  try {
    for await (const response of client.observe(words.uri, { ...words.init, signal: ended.signal }))
      await show(response, { ...words, endsWithNewline: true });
  } finally {
    clearTimeout(timer);
  }
}

/** @throws ErrorResponse, SecurityError for an error response. */
async function show(response: CoapResponse, words: CoapWords): Promise<void> {
  if (words.isVerbose) process.stderr.write(`${headOf(response)}\n`);
  if (!response.ok && response.code !== CODE.Empty) {
    const problem = response.problem();
    const texts = [problem?.title, problem?.detail].map((text) => (typeof text === "object" ? text.text : text));
    const message = [`${response.status} ${nameOf(response.code)}`, ...texts.filter((text) => text !== undefined)].join(
      ": ",
    );
    const authError = authErrorOf(response);
    if (authError !== undefined) throw new SecurityError("SECURITY_AUTHENTICATION_REFUSED", message, { authError });
    throw new ErrorResponse(message);
  }
  const newline = words.endsWithNewline ? "\n" : "";
  if (words.output !== undefined) {
    const file = createWriteStream(words.output);
    file.end(response.payload);
    await new Promise<void>((resolve, reject) => file.once("close", resolve).once("error", reject));
  } else {
    process.stdout.write(Buffer.concat([printable(response), Buffer.from(newline)]));
  }
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

function headOf(response: CoapResponse): string {
  const options = [...response.options].map(({ number, value }) => {
    const name = OPTION_NAMES.get(number) ?? String(number);
    return value.length === 0 ? name : `${name}:0x${Buffer.from(value).toString("hex")}`;
  });
  return [`${response.status} ${nameOf(response.code)}`, ...options, `${response.payload.length} bytes`].join(" ");
}

/** "Not Found" of `NotFound`. */
function nameOf(code: number): string {
  const name = Object.entries(CODE).find(([, value]) => value === code)?.[0] ?? "unknown";
  return name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ");
}

const OPTION_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(OPTION).map(([name, number]) => [number, name]),
);
