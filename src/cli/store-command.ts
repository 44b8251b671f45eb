import { createReadStream, openSync, writeFileSync, closeSync } from "node:fs";
import { createInterface } from "node:readline";
import { loadConfig } from "#config/index.js";
import { SERVER_SCHEMA, type ServerConfig } from "#server/index.js";
import { checkStore, exportStore, importStore, openBackend, StoreError } from "#store/index.js";
import { type Command, misuse, parseWords, usualFile } from "./command.js";
import { UsageError } from "./exit.js";

/** `dpe store check|export|import`: on the store itself, without a server. */
export const storeCommand: Command = {
  name: "store",
  synopsis: "check|export|import [FILE] [--config FILE]",
  summary: "check a server's store, export it to lines of JSON, or fill an empty one from them",
  help:
    "  FILE            of an export (default: standard output), or of an import\n" +
    "  --config FILE   the server's; default: server.yaml here\n" +
    "An export holds every secret of the store; FILE is made with mode 0600. Check and export may run beside the server,\n" +
    "but a check is then of a store that changes; import needs an empty store that no server uses.",
  example: "dpe store export backup.ndjson",
  run: async (words) => {
    const { values, positionals } = parseWords(
      storeCommand,
      words,
      { config: { type: "string" } },
      { maxPositionals: 2 },
    );
    const [what, file] = positionals;
    if (what === undefined || !["check", "export", "import"].includes(what))
      throw misuse(
        storeCommand,
        what === undefined ? "check, export or import is missing" : `${what} is not understood`,
      );
    if (what === "check" && file !== undefined) throw misuse(storeCommand, `${file} is not understood`);
    const config = loadConfig(values.config ?? usualFile(storeCommand, "server.yaml"), SERVER_SCHEMA);
    if (what === "check") return check(config);
    if (what === "export") return exportTo(config, file);
    if (file === undefined) throw misuse(storeCommand, "import needs the FILE of an export");
    return importFrom(config, file);
  },
};

async function check(config: ServerConfig): Promise<void> {
  const backend = await openBackend(locationOf(config), { isReader: true, dangerVolatile: true });
  let faults = 0;
  try {
    for await (const { invariant, message } of checkStore(backend)) {
      faults += 1;
      process.stdout.write(`${invariant}: ${message}\n`);
    }
  } finally {
    await backend.close();
  }
  if (faults > 0) throw new StoreError("STORE_CORRUPT", `the store has ${faults} fault${faults === 1 ? "" : "s"}`);
  process.stdout.write("the store is in order\n");
}

async function exportTo(config: ServerConfig, file: string | undefined): Promise<void> {
  const backend = await openBackend(locationOf(config), { isReader: true, dangerVolatile: true });
  const descriptor = file === undefined ? undefined : openSync(file, "wx", 0o600);
  try {
    for await (const line of exportStore(backend)) {
      if (descriptor === undefined) process.stdout.write(`${line}\n`);
      else writeFileSync(descriptor, `${line}\n`);
    }
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
    await backend.close();
  }
}

async function importFrom(config: ServerConfig, file: string): Promise<void> {
  const backend = await openBackend(locationOf(config), { dangerVolatile: config.dangerVolatileStore });
  try {
    const lines = createInterface({ input: createReadStream(file), crlfDelay: Infinity });
    process.stdout.write(`${await importStore(backend, lines)} entries\n`);
  } finally {
    await backend.close();
  }
}

function locationOf({ store }: ServerConfig): NonNullable<ServerConfig["store"]> {
  if (store === undefined) throw new UsageError("the configuration has no store: the server keeps its state in memory");
  return store;
}
