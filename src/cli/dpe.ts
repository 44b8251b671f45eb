#!/usr/bin/env node
import type { Command } from "./command.js";
import { exitOfOutput, exitWith, UsageError } from "./exit.js";
import { keepSmall } from "./small-process.js";

/** In the order of the usage. A command is loaded when it is called for: an agent is not to wait for a server's modules. */
const COMMANDS: Readonly<Record<string, () => Promise<readonly Command[]>>> = {
  server: async () => [(await import("./server-command.js")).serverCommand],
  agent: async () => [(await import("./agent-command.js")).agentCommand],
  proxy: async () => [(await import("./proxy-command.js")).proxyCommand],
  init: async () => [(await import("./init-command.js")).initCommand],
  pair: async () => [
    (await import("./pair-command.js")).pairCommand,
    (await import("./pair-device-command.js")).pairDeviceCommand,
  ],
  renew: async () => [(await import("./renew-command.js")).renewCommand],
  check: async () => [(await import("./check-command.js")).checkCommand],
  sim: async () => [(await import("./sim-command.js")).simCommand],
  demo: async () => [(await import("./demo-command.js")).demoCommand],
  bridge: async () => [(await import("./bridge-command.js")).bridgeCommand],
  devices: async () => [(await import("./devices-command.js")).devicesCommand],
  device: async () => [(await import("./device-command.js")).deviceCommand],
  query: async () => [(await import("./query-command.js")).queryCommand],
  observe: async () => [(await import("./observe-command.js")).observeCommand],
  subscriber: async () => [(await import("./subscriber-command.js")).subscriberCommand],
  store: async () => [(await import("./store-command.js")).storeCommand],
  explain: async () => [(await import("./explain-command.js")).explainCommand],
  key: async () => [(await import("./key-command.js")).keyCommand],
  ha1: async () => [(await import("./ha1-command.js")).ha1Command],
  coap: async () => (await import("./coap-command.js")).coapCommands,
};
const COAP_NAMES: ReadonlySet<string> = new Set([
  "get",
  "post",
  "put",
  "delete",
  "fetch",
  "patch",
  "ipatch",
  "observe",
]);

async function main([name, ...words]: readonly string[]): Promise<void> {
  if (name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(`${await usage()}\n`);
    return;
  }
  if (name === undefined) throw new UsageError(await usage());
  if (name === "agent") keepSmall();
  const command = await commandOf(name, words);
  if (command === undefined) throw new UsageError(`there is no command ${name}\n${await usage()}`);
  if (words.includes("--help") || words.includes("-h")) {
    process.stdout.write(
      `usage: ${lineOf(command)}\n${command.summary}\n${command.help === undefined ? "" : `${command.help}\n`}`,
    );
    return;
  }
  await command.run(words);
}

/** `observe` is a command of two: the words tell which. */
async function commandOf(name: string, words: readonly string[]): Promise<Command | undefined> {
  const own = Object.hasOwn(COMMANDS, name) ? await COMMANDS[name]?.() : undefined;
  const coap = COAP_NAMES.has(name) ? await COMMANDS["coap"]?.() : undefined;
  return [...(own ?? []), ...(coap ?? [])].find((one) => one.name === name && one.takes?.(words) !== false);
}

async function usage(): Promise<string> {
  const commands = (await Promise.all(Object.values(COMMANDS).map((load) => load()))).flat();
  const width = Math.max(...commands.map((command) => lineOf(command).length)) + 4;
  const lines = commands.map((command) => `${lineOf(command).padEnd(width)}${command.summary}`);
  return `usage: ${lines.join("\n       ")}\nexit codes: 0 ok, 1 failure, 2 usage or configuration, 3 authentication error`;
}

function lineOf({ name, synopsis }: Command): string {
  return `dpe ${name} ${synopsis}`.trimEnd();
}

for (const output of [process.stdout, process.stderr]) output.on("error", exitOfOutput);
main(process.argv.slice(2)).catch(exitWith);
