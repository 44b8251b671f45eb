import { readFileSync } from "node:fs";
import type { Command } from "./command.js";
import { CONTROL_SYNOPSIS, controlWords } from "./control-client.js";
import { UsageError } from "./exit.js";
import { table } from "./table.js";

/** `dpe subscriber add|list|remove|ban|unban`: who may use a running server. Secrets come from files or standard input. */
export const subscriberCommand: Command = {
  name: "subscriber",
  synopsis: `add|list|remove|ban|unban [NAME] ${CONTROL_SYNOPSIS}`,
  summary: "list, add, remove or ban subscribers of a running server",
  help:
    "add NAME [--password-file FILE] [--psk-identity NAME --psk-file FILE] [--certificate NAME]… [--key FINGERPRINT]…\n  [--endpoint PATTERN]…\n" +
    "  FILE has the password, or the key in hexadecimal; - is standard input. Secrets are not taken as words: others see those.",
  run: async (words) => {
    const { client, names, isJson, values } = controlWords(subscriberCommand, words, { min: 1, max: 2 }, OPTIONS);
    const [what, name] = names;
    if (what === "list" && name === undefined) {
      const { subscribers } = await client.send<{ readonly subscribers: readonly SubscriberView[] }>(
        "GET",
        "/api/subscribers",
      );
      if (isJson) process.stdout.write(`${JSON.stringify(subscribers)}\n`);
      else
        process.stdout.write(
          table(
            HEADINGS,
            subscribers.map((one) => rowOf(one)),
          ),
        );
      return;
    }
    if (name === undefined) throw new UsageError(`usage: dpe subscriber ${subscriberCommand.synopsis}`);
    const url = `/api/subscribers/${encodeURIComponent(name)}`;
    if (what === "add") await client.send("POST", "/api/subscribers", bodyOf(name, values));
    else if (what === "remove") await client.send("DELETE", url);
    else if (what === "ban" || what === "unban") await client.send("POST", `${url}/ban`, { banned: what === "ban" });
    else throw new UsageError(`dpe subscriber: ${what} is not understood`);
    const done = { add: "added", remove: "removed", ban: "banned", unban: "may come back" }[what];
    process.stdout.write(isJson ? `${JSON.stringify({ name, done })}\n` : `${name} ${done}\n`);
  },
};

interface SubscriberView {
  readonly name: string;
  readonly credentials: readonly string[];
  readonly endpoints?: readonly string[];
  readonly isBanned: boolean;
  readonly isConfigured: boolean;
}

function rowOf({ name, credentials, endpoints, isBanned, isConfigured }: SubscriberView): readonly string[] {
  return [
    name,
    credentials.join(", "),
    endpoints?.join(" ") ?? "any",
    isConfigured ? "configuration" : "store",
    isBanned ? "banned" : "allowed",
  ];
}

function bodyOf(name: string, values: Readonly<Record<string, string | boolean | string[] | undefined>>): object {
  const passwordFile = values["password-file"];
  const pskIdentity = values["psk-identity"];
  const pskFile = values["psk-file"];
  if ((pskIdentity === undefined) !== (pskFile === undefined))
    throw new UsageError("dpe subscriber add: --psk-identity and --psk-file go together");
  const body = {
    name,
    ...(typeof passwordFile === "string" ? { password: secretIn(passwordFile) } : {}),
    ...(typeof pskFile === "string" ? { psk: { identity: pskIdentity, key: secretIn(pskFile) } } : {}),
    ...(values["certificate"] === undefined ? {} : { certificates: values["certificate"] }),
    ...(values["key"] === undefined ? {} : { keys: values["key"] }),
    ...(values["endpoint"] === undefined ? {} : { endpoints: values["endpoint"] }),
  };
  if (!("password" in body) && !("psk" in body) && !("certificates" in body) && !("keys" in body))
    throw new UsageError("dpe subscriber add: needs --password-file, --psk-file, --certificate or --key");
  return body;
}

function secretIn(file: string): string {
  return readFileSync(file === "-" ? 0 : file, "utf8").replace(/\r?\n$/, "");
}

const OPTIONS = {
  "password-file": { type: "string" },
  "psk-identity": { type: "string" },
  "psk-file": { type: "string" },
  certificate: { type: "string", multiple: true },
  key: { type: "string", multiple: true },
  endpoint: { type: "string", multiple: true },
} as const;
const HEADINGS = ["SUBSCRIBER", "CREDENTIALS", "ENDPOINTS", "FROM", "STATE"];
