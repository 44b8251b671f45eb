import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { issueThrowawayCredentials } from "#x509/index.js";
import { type Command, misuse, parseWords } from "./command.js";
import { UsageError } from "./exit.js";
import { agentExample, serverExample } from "./init-examples.js";
import { refuseExisting, writeFiles } from "./new-files.js";

/** `dpe init`: a first configuration, for the server with a CA and a certificate of its own, so that it is safe at once. */
export const initCommand: Command = {
  name: "init",
  synopsis: "server|agent [--dir DIR] [--name NAME]…",
  summary: "write a commented configuration; for a server also a CA and its certificate",
  help:
    "  --dir DIR       where the files go; default: here. Readable by their owner only, never over files that are there\n" +
    "  --name NAME     of a server: a name or address more by which devices reach it; this machine's own are in its\n" +
    "                  certificate anyway. Repeatable",
  example: "dpe init server --name dpe.example.net --name 203.0.113.7",
  run: async (words) => {
    const { values, positionals } = parseWords(initCommand, words, OPTIONS, { maxPositionals: 1 });
    const [what] = positionals;
    const { dir = ".", name: names = [] } = values;
    if (what === "agent" && names.length > 0) throw misuse(initCommand, "--name is of a server");
    if (what === "agent") return initAgent(dir);
    if (what === "server") return initServer(dir, names);
    throw misuse(
      initCommand,
      what === undefined ? "server or agent is missing" : `${what} is neither server nor agent`,
    );
  },
};

function initAgent(dir: string): void {
  refuseExisting(dir, ["agent.yaml"]);
  const endpoint = hostname().split(".")[0] ?? "device";
  writeFiles(dir, [{ name: "agent.yaml", text: agentExample(endpoint, randomBytes(16).toString("hex")) }]);
  process.stdout.write(
    `wrote ${join(dir, "agent.yaml")}: set server and credentials in it.\n` +
      "To be given both by a server, remove it, and run instead what dpe pair shows there.\n",
  );
}

async function initServer(dir: string, given: readonly string[]): Promise<void> {
  refuseExisting(dir, SERVER_FILES);
  const wrong = given.find((name) => isIP(name) === 0 && !/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(name));
  if (wrong !== undefined) throw new UsageError(`dpe init: ${wrong} is no name or address`);
  const all = [...new Set([...ownNames(), ...given])];
  const atMs = Date.now();
  const { authority, certificatePem, privateKeyPem } = await issueThrowawayCredentials({
    commonName: "DPE Server",
    authorityName: "DPE CA",
    purpose: "serverAuth",
    atMs,
    validityDays: SERVER_DAYS,
    authorityValidityDays: AUTHORITY_DAYS,
    dns: all.filter((name) => isIP(name) === 0),
    ip: all.filter((name) => isIP(name) !== 0),
  });
  const texts = [authority.certificatePem, authority.privateKeyPem, certificatePem, privateKeyPem, serverExample()];
  const files = SERVER_FILES.map((name, index) => ({ name, text: texts[index] ?? "" }));
  writeFiles(dir, files);
  const config = join(dir, "server.yaml");
  const option = dir === "." ? "" : ` --config ${config}`;
  process.stdout.write(
    `wrote ${files.map(({ name }) => join(dir, name)).join(", ")}\n` +
      `The certificate is for ${all.join(", ")}, until ${new Date(atMs + SERVER_DAYS * DAY_MS).toISOString().slice(0, 10)}; the server renews it.\n\n` +
      `Start it:        dpe server${option}\n` +
      `Add a device:    dpe pair${option}\n`,
  );
}

/** What this machine is reached by. */
function ownNames(): readonly string[] {
  const host = hostname();
  const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const outside = addresses.filter(({ internal, address }) => !internal && !address.startsWith("fe80:"));
  const names = /^[A-Za-z0-9.-]+$/.test(host) ? [host, ...(host.includes(".") ? [] : [`${host}.local`])] : [];
  return [...names, ...outside.map(({ address }) => address), "localhost", "127.0.0.1", "::1"];
}

/** In the order in which they are written: the configuration last, when all that it names is there. */
const SERVER_FILES = ["ca.pem", "ca.key", "server.pem", "server.key", "server.yaml"] as const;
const OPTIONS = { dir: { type: "string" }, name: { type: "string", multiple: true } } as const;
/** Renewed by the server itself, with a third of it left. */
const SERVER_DAYS = 730;
const AUTHORITY_DAYS = 3650;
const DAY_MS = 86_400_000;
