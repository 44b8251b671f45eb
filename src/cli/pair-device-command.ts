import { hostname } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, DEVICE_FILE_NAMES, deviceFiles, DpeAgent, pairDevice } from "#agent/index.js";
import { loadConfig } from "#config/index.js";
import { checkEndpointName } from "#dpe/index.js";
import { type PairingTarget, parsePairingCode, parsePairingUri } from "#security/index.js";
import { type Command, misuse, parseWords } from "./command.js";
import { describe } from "./exit.js";
import { checkWritable, refuseExisting, writeFiles } from "./new-files.js";

/** `dpe pair URI CODE`, on the device: its credentials by a one-time code, written down, and a first registration. */
export const pairDeviceCommand: Command = {
  name: "pair",
  synopsis: "coaps://HOST[:PORT] CODE [--dir DIR] [--endpoint NAME] [--force]",
  summary: "on a device: pair it with a server by the code that dpe pair shows there",
  help:
    "  CODE             as the server shows it; - reads it from standard input. One word in place of both will do:\n" +
    "                   the coaps+dpe-pair:// URI of the QR code\n" +
    "  --dir DIR        where agent.yaml and what it names go; default: here. Readable by their owner only\n" +
    "  --endpoint NAME  what the server calls this device; default: this machine's name\n" +
    "  --force          over files that are there",
  example: "dpe pair coaps://dpe.example.net QQKG-T036-AHY9-A27Z-PQH4-A5WJ",
  form: "URI",
  takes: (words) => words.some((word) => word.includes("://")),
  run: async (words) => {
    const { values, positionals } = parseWords(pairDeviceCommand, words, OPTIONS, { maxPositionals: 2 });
    const { dir = ".", endpoint = defaultName(), force = false } = values;
    const target = await targetOf(positionals);
    // Before the code is spent.
    try {
      checkEndpointName(endpoint);
    } catch (error) {
      throw misuse(pairDeviceCommand, `--endpoint: ${describe(error)}`);
    }
    if (!force) refuseExisting(dir, DEVICE_FILE_NAMES);
    checkWritable(dir);
    const paired = await pairDevice(target, endpoint);
    const { host, port } = target;
    const server = `coaps://${host.includes(":") ? `[${host}]` : host}:${port}`;
    const files = deviceFiles(paired, server);
    writeFiles(dir, files, { force });
    const config = join(dir, "agent.yaml");
    process.stdout.write(
      `paired as ${paired.grant.endpoint}; wrote ${files.map(({ name }) => join(dir, name)).join(", ")}\n`,
    );
    await register(config);
    process.stdout.write(
      `registered at ${server}\n\nNow run it, or install it as a service (docs/pairing.md):\n  dpe agent --config ${config}\n`,
    );
  },
};

async function targetOf([uri = "", word]: readonly string[]): Promise<PairingTarget> {
  if (uri.startsWith("coaps+dpe-pair:") && word === undefined) return parsePairingUri(uri);
  const match = /^coaps:\/\/(?:\[([^\]]+)\]|([^:/[\]]+))(?::(\d{1,5}))?\/?$/i.exec(uri);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? DEFAULT_COAPS_PORT);
  if (host === undefined) throw misuse(pairDeviceCommand, `${uri} is not coaps://HOST or coaps://HOST:PORT`);
  if (port < 1 || port > 65_535) throw misuse(pairDeviceCommand, `${uri}: a port is 1 to 65535`);
  if (word === undefined) throw misuse(pairDeviceCommand, "CODE is missing: dpe pair on the server shows one");
  return { host, port, code: parsePairingCode(word === "-" ? await standardInput() : word) };
}

async function standardInput(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString().trim();
}

/** The first registration shows that all that was written serves. */
async function register(file: string): Promise<void> {
  let registered: () => void = () => undefined;
  let lost: (error: unknown) => void = () => undefined;
  const outcome = new Promise<void>((resolve, reject) => {
    registered = resolve;
    lost = reject;
  });
  const { store: _none, ...config } = loadConfig(file, AGENT_SCHEMA);
  const agent = new DpeAgent(config, [], (event) => {
    if (event.type === "registered") registered();
    if (event.type === "lost") lost(event.error);
  });
  try {
    await Promise.race([outcome, agent.stopped]);
  } finally {
    outcome.catch(() => undefined);
    await agent.close({ keepsRegistration: true });
  }
}

function defaultName(): string {
  const name = hostname()
    .split(".")[0]
    ?.replaceAll(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "");
  return name === undefined || name === "" ? "device" : name.slice(0, 63);
}

const OPTIONS = {
  dir: { type: "string" },
  endpoint: { type: "string" },
  force: { type: "boolean" },
} as const;
/** RFC 7252 §6.2 */
const DEFAULT_COAPS_PORT = 5684;
