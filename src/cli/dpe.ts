#!/usr/bin/env node
import { parseArgs } from "node:util";
import { runAgent } from "./agent-command.js";
import { runCheck } from "./check-command.js";
import { runDemo } from "./demo-command.js";
import { exitWith, UsageError } from "./exit.js";
import { runServer } from "./server-command.js";

const USAGE = `usage: dpe server --config FILE    run a DPE Server
       dpe agent --config FILE     run a DPE Client on this machine
       dpe check --config FILE     check a configuration and print what it comes to, secrets masked
       dpe demo [--keep]           a server, this machine as agent and three simulated devices, paired over DTLS
exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 authentication error`;

const COMMANDS: Readonly<Record<string, (options: CommandOptions) => Promise<void>>> = {
  server: runServer,
  agent: runAgent,
  check: runCheck,
  demo: runDemo,
};

export interface CommandOptions {
  readonly config: string | undefined;
  readonly keep: boolean;
}

async function main(): Promise<void> {
  const { positionals, values } = parse();
  const [name, ...rest] = positionals;
  if (values.help === true) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const command = name === undefined ? undefined : COMMANDS[name];
  if (command === undefined) throw new UsageError(name === undefined ? USAGE : `there is no command ${name}\n${USAGE}`);
  if (rest.length > 0) throw new UsageError(`dpe ${name}: ${rest.join(" ")} is not understood\n${USAGE}`);
  if (values.keep === true && name !== "demo") throw new UsageError(`--keep belongs to dpe demo\n${USAGE}`);
  if (values.config !== undefined && name === "demo")
    throw new UsageError(`dpe demo brings its own configuration\n${USAGE}`);
  await command({ config: values.config, keep: values.keep ?? false });
}

function parse(): {
  readonly positionals: readonly string[];
  readonly values: { readonly config?: string; readonly keep?: boolean; readonly help?: boolean };
} {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { config: { type: "string" }, keep: { type: "boolean" }, help: { type: "boolean", short: "h" } },
    });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  }
}

main().catch(exitWith);
