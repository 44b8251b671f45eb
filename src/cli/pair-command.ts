import { renderUnicodeCompact } from "uqr";
import { pause } from "#waiting/index.js";
import { type Command, misuse } from "./command.js";
import { CONTROL_SYNOPSIS, type ControlClient, controlWords } from "./control-client.js";

/** `dpe pair`, on the server: a one-time code for a device. With a URI it is the device's: see `pair-device-command`. */
export const pairCommand: Command = {
  name: "pair",
  synopsis: `[--endpoint PATTERN] [--subscriber NAME] [--expires 10m] [--host HOST] [--replace] [--wait] ${CONTROL_SYNOPSIS}`,
  summary: "on a running server: show a one-time code for a device",
  help:
    "  --endpoint PATTERN   which names the device may choose, * for any run of characters; default: any\n" +
    "  --subscriber NAME    what it becomes; default: its endpoint's name\n" +
    "  --expires 10m        until when the code is good: 10s to 24h\n" +
    "  --host HOST          where the device reaches this server; default: the names of its certificate\n" +
    "  --replace            it may take the place of a device that was paired before, whose credentials then end\n" +
    "  --wait               stay until the code was used, and say by whom\n" +
    "dpe pair list shows the codes, dpe pair revoke ID ends one.",
  example: "dpe pair --endpoint 'pi-*' --wait",
  takes: (words) => !words.some((word) => word.includes("://")),
  run: async (words) => {
    const { client, names, isJson, values } = controlWords(pairCommand, words, { max: 2 }, OPTIONS);
    const [what, id, ...more] = names;
    if (what === "list" && id === undefined) return list(client, isJson);
    if (what === "revoke" && id !== undefined && more.length === 0) {
      await client.send("DELETE", `/api/pairing/${encodeURIComponent(id.slice(0, ID_LENGTH + 1).replace("-", ""))}`);
      process.stdout.write(isJson ? `${JSON.stringify({ id, done: "revoked" })}\n` : `${id} revoked\n`);
      return;
    }
    if (what === "revoke") throw misuse(pairCommand, "revoke needs the ID of one code, as dpe pair list shows it");
    if (what !== undefined)
      throw misuse(
        pairCommand,
        `${what} is not understood; on a device it is dpe pair coaps://HOST CODE, on a server dpe pair, dpe pair list or dpe pair revoke ID`,
      );
    const issued = await client.send<Issued>("POST", "/api/pairing", bodyOf(values));
    process.stdout.write(isJson ? `${JSON.stringify(issued)}\n` : shown(issued));
    if (values["wait"] === true) await untilUsed(client, issued, isJson);
  },
};

interface Issued {
  readonly id: string;
  readonly code: string;
  readonly expiresAt: string;
  readonly hosts: readonly string[];
  readonly port: number;
  readonly uris: readonly string[];
}

interface CodeRow {
  readonly id: string;
  readonly state: string;
  readonly expiresAt: string;
  readonly tries: number;
  readonly endpoint?: string;
  readonly subscriber?: string;
}

async function list(client: ControlClient, isJson: boolean): Promise<void> {
  const { codes } = await client.send<{ readonly codes: readonly CodeRow[] }>("GET", "/api/pairing");
  if (isJson) {
    process.stdout.write(`${JSON.stringify(codes)}\n`);
    return;
  }
  const { table } = await import("./table.js");
  const rows = codes.map(({ id, state, expiresAt, tries, endpoint = "any", subscriber = "the endpoint's name" }) => [
    id,
    state,
    clock(expiresAt),
    String(tries),
    endpoint,
    subscriber,
  ]);
  process.stdout.write(table(["CODE", "STATE", "UNTIL", "TRIES", "ENDPOINT", "SUBSCRIBER"], rows));
}

function shown({ code, expiresAt, hosts, port, uris }: Issued): string {
  const minutes = Math.round((Date.parse(expiresAt) - Date.now()) / 60_000);
  const until = `${clock(expiresAt)} (${minutes} min)`;
  const [uri] = uris;
  const [host] = hosts;
  if (uri === undefined || host === undefined)
    return `code     ${code}\nexpires  ${until}\n\nThe server's certificate names none of this machine's addresses: give --host.\n`;
  const qr = process.stdout.isTTY ? `${renderUnicodeCompact(uri, { ecc: "L", border: 2 })}\n` : "";
  const name = host.includes(":") ? `[${host}]` : host;
  const others = hosts.length === 1 ? "" : `or at  ${hosts.slice(1).join(", ")}\n`;
  return `${qr}code     ${code}\nexpires  ${until}, and with the first device\nuri      ${uri}\n\nOn the device:\n  dpe pair coaps://${name}:${port} ${code}\n${others}`;
}

/** The wall clock of this machine, as 14:05:09. */
function clock(time: string): string {
  return new Date(time).toLocaleTimeString("en-GB");
}

async function untilUsed(client: ControlClient, { id, expiresAt }: Issued, isJson: boolean): Promise<void> {
  for (;;) {
    await pause(POLL_MS);
    const isOver = Date.now() >= Date.parse(expiresAt);
    const found = isOver ? undefined : await client.send<CodeRow>("GET", `/api/pairing/${id}`);
    if (found?.state === "open") continue;
    const said =
      found?.state === "paired" ? `paired: ${found.endpoint ?? ""}` : `not used: ${found?.state ?? "expired"}`;
    process.stdout.write(isJson ? `${JSON.stringify(found ?? { id, state: "expired" })}\n` : `${said}\n`);
    if (found?.state !== "paired") process.exitCode = 1;
    return;
  }
}

function bodyOf(values: Readonly<Record<string, string | boolean | string[] | undefined>>): object {
  const { endpoint, subscriber, expires, host, replace } = values;
  return {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(subscriber === undefined ? {} : { subscriber }),
    ...(host === undefined ? {} : { host }),
    ...(replace === true ? { replace } : {}),
    ...(typeof expires === "string" ? { expiresSeconds: secondsOf(expires) } : {}),
  };
}

function secondsOf(text: string): number {
  const match = /^(\d+)(s|m|h)?$/.exec(text);
  const seconds =
    Number(match?.[1] ?? Number.NaN) * { s: 1, m: 60, h: 3600 }[(match?.[2] as "s" | "m" | "h" | undefined) ?? "s"];
  if (!(seconds >= 10 && seconds <= 86_400)) throw misuse(pairCommand, "--expires is 10s to 24h");
  return seconds;
}

const OPTIONS = {
  endpoint: { type: "string" },
  subscriber: { type: "string" },
  expires: { type: "string" },
  host: { type: "string" },
  replace: { type: "boolean" },
  wait: { type: "boolean" },
} as const;
const ID_LENGTH = 6;
const POLL_MS = 1000;
