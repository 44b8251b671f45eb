import { request } from "node:http";
import { dirname } from "node:path";
import { loadConfig } from "#config/index.js";
import { isForeignFolder } from "#files/index.js";
import { SERVER_SCHEMA } from "#server/index.js";
import { type Command, misuse, parseWords } from "./command.js";
import { defaultControlPath } from "./control-path.js";
import { UsageError } from "./exit.js";

/** Speaks to a running server over its control socket. */
export class ControlClient {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** The answer as JSON, undefined where it has no body. @throws ControlError. */
  async send<Answer = unknown>(method: "GET" | "POST" | "DELETE", url: string, body?: object): Promise<Answer> {
    const chunks: Buffer[] = [];
    const { status, stream } = await this.#open(method, url, body);
    for await (const chunk of stream) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const answer = text === "" ? undefined : (JSON.parse(text) as unknown);
    if (status < 400) return answer as Answer;
    throw failureOf(status, answer);
  }

  /** Server-sent events, as they come; after `lastEventId` where there were some before. @throws ControlError. */
  async *follow(url: string, lastEventId?: string): AsyncIterable<ControlEvent> {
    const headers = lastEventId === undefined ? {} : { "last-event-id": lastEventId };
    const { status, stream } = await this.#open("GET", url, undefined, headers);
    let text = "";
    for await (const chunk of stream) {
      text += chunk.toString();
      if (status >= 400) continue;
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        const id = /^id: (.*)$/m.exec(block)?.[1];
        if (event !== undefined && data !== undefined) yield { event, data: JSON.parse(data) as unknown, id };
      }
    }
    if (status >= 400) throw failureOf(status, JSON.parse(text) as unknown);
  }

  async #open(
    method: string,
    url: string,
    body: object | undefined,
    more: Readonly<Record<string, string>> = {},
  ): Promise<{ readonly status: number; readonly stream: AsyncIterable<Buffer> }> {
    // What is asked may hold a password, and whoever answers there is believed.
    if (isForeignFolder(dirname(this.#path)))
      throw new ControlError(
        "CONTROL_NOT_REACHABLE",
        `the folder of ${this.#path} is another user's, or all may write there`,
      );
    return new Promise((resolve, reject) => {
      const headers = body === undefined ? more : { ...more, "content-type": "application/json" };
      const sent = request({ socketPath: this.#path, method, path: url, headers }, (answer) =>
        resolve({ status: answer.statusCode ?? 0, stream: answer }),
      );
      sent.once("error", (error: Error & { readonly code?: string }) => {
        const isAbsent = error.code === "ENOENT" || error.code === "ECONNREFUSED";
        const why = isAbsent
          ? `no server answers at ${this.#path}; is it running, and is --control or --config right?`
          : error.code === "EACCES"
            ? `${this.#path} may not be used by this user: run it as the server's user`
            : error.message;
        reject(new ControlError("CONTROL_NOT_REACHABLE", why, { cause: error }));
      });
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

export interface ControlEvent {
  readonly event: string;
  readonly data: unknown;
  readonly id: string | undefined;
}

/** The server cannot be spoken with, or it refused; `code` is then its own. */
export class ControlError extends Error {
  override readonly name = "ControlError";
  readonly code: string;

  constructor(code: string, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** The words of a command that speaks to a running server, and the client for it. */
export function controlWords(
  command: Command,
  words: readonly string[],
  positionals: { readonly min?: number; readonly max?: number } = {},
  more: Readonly<Record<string, { readonly type: "string" | "boolean"; readonly multiple?: boolean }>> = {},
): ControlWords {
  const { min = 0, max = 0 } = positionals;
  const parsed = parseWords(command, words, { ...CONTROL_OPTIONS, ...more }, { maxPositionals: max });
  if (parsed.positionals.length < min) throw misuse(command, `${command.synopsis.split(/[ |]/)[0] ?? ""} is missing`);
  const values = parsed.values as Readonly<Record<string, string | boolean | string[] | undefined>>;
  const { control, config, json } = values;
  if (control !== undefined && config !== undefined) throw misuse(command, "--control and --config exclude each other");
  const path =
    typeof control === "string" ? control : typeof config === "string" ? pathOf(config) : defaultControlPath();
  return { client: new ControlClient(path), names: parsed.positionals, isJson: json === true, values };
}

export interface ControlWords {
  readonly client: ControlClient;
  readonly names: readonly string[];
  readonly isJson: boolean;
  readonly values: Readonly<Record<string, string | boolean | string[] | undefined>>;
}

/** What every such command understands, for its synopsis. */
export const CONTROL_SYNOPSIS = "[--json] [--config FILE | --control PATH]";

function pathOf(file: string): string {
  const { control } = loadConfig(file, SERVER_SCHEMA);
  if (control === "none") throw new UsageError(`${file} has control: none, so no command can reach that server`);
  return control ?? defaultControlPath();
}

function failureOf(status: number, answer: unknown): ControlError {
  const { error = `HTTP ${status}`, message = "the server refused" } = (answer ?? {}) as {
    readonly error?: string;
    readonly message?: string;
  };
  return new ControlError(error, message);
}

const CONTROL_OPTIONS = {
  control: { type: "string" },
  config: { type: "string" },
  json: { type: "boolean" },
} as const;
