#!/usr/bin/env node
import { agentCommand } from "./agent-command.js";
import { bridgeCommand } from "./bridge-command.js";
import { checkCommand } from "./check-command.js";
import { coapCommands } from "./coap-command.js";
import type { Command } from "./command.js";
import { demoCommand } from "./demo-command.js";
import { deviceCommand } from "./device-command.js";
import { devicesCommand } from "./devices-command.js";
import { exitWith, UsageError } from "./exit.js";
import { explainCommand } from "./explain-command.js";
import { ha1Command } from "./ha1-command.js";
import { keyCommand } from "./key-command.js";
import { proxyCommand } from "./proxy-command.js";
import { observeCommand } from "./observe-command.js";
import { queryCommand } from "./query-command.js";
import { serverCommand } from "./server-command.js";
import { simCommand } from "./sim-command.js";
import { storeCommand } from "./store-command.js";
import { subscriberCommand } from "./subscriber-command.js";

/** In the order of the usage. */
const COMMANDS: readonly Command[] = [
  serverCommand,
  agentCommand,
  proxyCommand,
  checkCommand,
  simCommand,
  demoCommand,
  bridgeCommand,
  devicesCommand,
  deviceCommand,
  queryCommand,
  observeCommand,
  subscriberCommand,
  storeCommand,
  explainCommand,
  ha1Command,
  keyCommand,
  ...coapCommands,
];

async function main([name, ...words]: readonly string[]): Promise<void> {
  if (name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(`${usage()}\n`);
    return;
  }
  if (name === undefined) throw new UsageError(usage());
  const command = COMMANDS.find((one) => one.name === name && one.takes?.(words) !== false);
  if (command === undefined) throw new UsageError(`there is no command ${name}\n${usage()}`);
  if (words.includes("--help") || words.includes("-h")) {
    process.stdout.write(
      `usage: ${lineOf(command)}\n${command.summary}\n${command.help === undefined ? "" : `${command.help}\n`}`,
    );
    return;
  }
  await command.run(words);
}

function usage(): string {
  const width = Math.max(...COMMANDS.map((command) => lineOf(command).length)) + 4;
  const lines = COMMANDS.map((command) => `${lineOf(command).padEnd(width)}${command.summary}`);
  return `usage: ${lines.join("\n       ")}\nexit codes: 0 ok, 1 failure, 2 usage or configuration, 3 authentication error`;
}

function lineOf({ name, synopsis }: Command): string {
  return `dpe ${name} ${synopsis}`.trimEnd();
}

main(process.argv.slice(2)).catch(exitWith);
