import { type Command, misuse, textOf } from "./command.js";
import { CONTROL_SYNOPSIS, controlWords } from "./control-client.js";
import { table } from "./table.js";

/** `dpe subscriber add|list|remove|ban|unban`: who may use a running server. Secrets come from files or standard input. */
export const subscriberCommand: Command = {
  name: "subscriber",
  synopsis: `add|list|remove|ban|unban [NAME] ${CONTROL_SYNOPSIS}`,
  summary: "list, add, remove or ban subscribers of a running server",
  help:
    "add NAME is with one or more of these:\n" +
    "  --password-file FILE                   Digest; the first line is the password, - is standard input\n" +
    "  --psk-identity NAME --psk-file FILE    the key in hexadecimal\n" +
    "  --certificate NAME                     a subjectAltName or common name; repeatable\n" +
    "  --key FINGERPRINT                      of a raw public key, as dpe key prints it; repeatable\n" +
    "  --endpoint PATTERN                     which endpoint names it may register; default: any; repeatable\n" +
    "Secrets are not taken as words: others see those. remove, ban and unban NAME need nothing else.",
  example: "dpe subscriber add alice --password-file alice.secret --endpoint 'pi-*'",
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
    if (what === undefined || !DONE.has(what))
      throw misuse(subscriberCommand, `${what === "list" ? name : what} is not understood`);
    if (name === undefined) throw misuse(subscriberCommand, `${what} needs the NAME of a subscriber`);
    const url = `/api/subscribers/${encodeURIComponent(name)}`;
    if (what === "add") await client.send("POST", "/api/subscribers", bodyOf(name, values));
    else if (what === "remove") await client.send("DELETE", url);
    else await client.send("POST", `${url}/ban`, { banned: what === "ban" });
    const done = DONE.get(what);
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
    throw misuse(subscriberCommand, "--psk-identity and --psk-file go together");
  const body = {
    name,
    ...(typeof passwordFile === "string" ? { password: secretIn(passwordFile) } : {}),
    ...(typeof pskFile === "string" ? { psk: { identity: pskIdentity, key: secretIn(pskFile) } } : {}),
    ...(values["certificate"] === undefined ? {} : { certificates: values["certificate"] }),
    ...(values["key"] === undefined ? {} : { keys: values["key"] }),
    ...(values["endpoint"] === undefined ? {} : { endpoints: values["endpoint"] }),
  };
  if (!("password" in body) && !("psk" in body) && !("certificates" in body) && !("keys" in body))
    throw misuse(subscriberCommand, "add needs --password-file, --psk-file, --certificate or --key");
  return body;
}

function secretIn(file: string): string {
  return textOf(subscriberCommand, file).replace(/\r?\n$/, "");
}

const OPTIONS = {
  "password-file": { type: "string" },
  "psk-identity": { type: "string" },
  "psk-file": { type: "string" },
  certificate: { type: "string", multiple: true },
  key: { type: "string", multiple: true },
  endpoint: { type: "string", multiple: true },
} as const;
const DONE: ReadonlyMap<string, string> = new Map([
  ["add", "added"],
  ["remove", "removed"],
  ["ban", "banned"],
  ["unban", "may come back"],
]);
const HEADINGS = ["SUBSCRIBER", "CREDENTIALS", "ENDPOINTS", "FROM", "STATE"];
