import type { Secret } from "#config/index.js";
import { messageOf } from "#errors/index.js";
import { AgentError } from "../agent-error.js";
import { readingsOf } from "./json-readings.js";
import type { Source } from "./source.js";

/** The source `http`: what a web server answers to GET, as JSON or as one number or word. */
export function httpSource({ name, url, every, timeout, unit, headers }: HttpOptions): Source {
  // What is asked there may hold a key.
  const [place = ""] = url.split(/[?#]/);
  return {
    name,
    everyMs: every,
    read: async () => {
      try {
        const response = await fetch(url, {
          headers: { accept: "application/json", ...textsOf(headers) },
          // Another place is not told our secrets.
          redirect: headers === undefined ? "follow" : "manual",
          signal: AbortSignal.timeout(timeout),
        });
        if (!response.ok) {
          await response.body?.cancel();
          throw new AgentError("AGENT_SOURCE_FAILED", `${name}: ${place} answered ${response.status}`);
        }
        return readingsOf(await boundedText(response, name), name, unit);
      } catch (error) {
        if (error instanceof AgentError) throw error;
        throw new AgentError("AGENT_SOURCE_FAILED", `${name}: ${place}: ${reasonOf(error)}`, { cause: error });
      }
    },
  };
}

export interface HttpOptions {
  readonly name: string;
  /** http or https, without a user name; what is after `?` is not told in errors. */
  readonly url: string;
  /** Ms. */
  readonly every: number;
  /** For the whole answer, ms. */
  readonly timeout: number;
  readonly unit?: string | undefined;
  /** Secrets, as an API asks for. */
  readonly headers?: Readonly<Record<string, Secret>> | undefined;
}

function textsOf(headers: HttpOptions["headers"] = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([header, value]) => [header, value.text()]));
}

async function boundedText(response: Response, name: string): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    if (text.length > MAX_ANSWER_LENGTH)
      throw new AgentError("AGENT_BAD_READING", `${name}: an answer longer than ${MAX_ANSWER_LENGTH}`);
  }
  return text + decoder.decode();
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return "no answer in time";
  // fetch hides what happened in the cause.
  return messageOf(error.cause ?? error);
}

const MAX_ANSWER_LENGTH = 65_536;
