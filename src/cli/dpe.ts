#!/usr/bin/env node
import { type Command, helpOf } from "./command.js";
import { exitOfOutput, exitWith, UsageError } from "./exit.js";
import { keepSmall } from "./small-process.js";

/** A command is loaded when it is called for: an agent is not to wait for a server's modules. */
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
  observe: async () => [(await import("./observe-command.js")).observeCommand, await coapCommand("observe")],
  subscriber: async () => [(await import("./subscriber-command.js")).subscriberCommand],
  store: async () => [(await import("./store-command.js")).storeCommand],
  explain: async () => [(await import("./explain-command.js")).explainCommand],
  key: async () => [(await import("./key-command.js")).keyCommand],
  ha1: async () => [(await import("./ha1-command.js")).ha1Command],
  ...Object.fromEntries(
    ["get", "post", "put", "delete", "fetch", "patch", "ipatch"].map((name) => [
      name,
      async () => [await coapCommand(name)],
    ]),
  ),
};

/** The usage: what is for whom. */
const GROUPS: readonly (readonly [string, readonly string[]])[] = [
  ["to run", ["server", "agent", "proxy"]],
  ["to set up", ["init", "pair", "check", "renew", "key", "ha1"]],
  ["to operate a server", ["devices", "device", "query", "observe", "subscriber", "store", "explain"]],
  ["to try things", ["demo", "sim", "bridge"]],
  ["to ask any CoAP server", ["get", "post", "put", "delete", "fetch", "patch", "ipatch"]],
];

async function main([name, ...words]: readonly string[]): Promise<void> {
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split(".").map(Number);
  // Said before a module asks for what an older one has not. That of Debian 12 is 18.
  if (major < LEAST_NODE.major || (major === LEAST_NODE.major && minor < LEAST_NODE.minor))
    throw new UsageError(`Node.js ${LEAST_NODE.major}.${LEAST_NODE.minor} or later is needed, and this is ${node}`);
  if (name === "--help" || name === "-h" || (name === "help" && words[0] === undefined)) {
    process.stdout.write(await usage());
    return;
  }
  if (name === "--version" || name === "-V") {
    process.stdout.write(`dpe-coap ${(await import("./version.js")).VERSION}\n`);
    return;
  }
  if (name === "help") return main([words[0] ?? "", "--help"]);
  if (name === undefined) throw new UsageError((await usage()).trimEnd());
  if (name === "agent") keepSmall();
  const command = await commandOf(name, words);
  if (command === undefined) {
    const { nearest } = await import("#config/index.js");
    const meant = nearest(name, Object.keys(COMMANDS));
    throw new UsageError(
      `there is no command ${name}${meant === undefined ? ";" : `; did you mean ${meant}?`} dpe --help lists them`,
    );
  }
  if (words.includes("--help") || words.includes("-h")) {
    process.stdout.write(helpOf(command));
    return;
  }
  await command.run(words);
}

/** Of two commands with one name the words tell which. */
async function commandOf(name: string, words: readonly string[]): Promise<Command | undefined> {
  const all = Object.hasOwn(COMMANDS, name) ? await COMMANDS[name]?.() : undefined;
  return all?.find((one) => one.takes?.(words) !== false);
}

async function coapCommand(name: string): Promise<Command> {
  return (await import("./coap-command.js")).coapCommand(name);
}

async function usage(): Promise<string> {
  const groups = await Promise.all(
    GROUPS.map(async ([title, names]) => {
      const commands = (await Promise.all(names.flatMap((name) => COMMANDS[name]?.() ?? []))).flat();
      const lines = commands.map(({ name, form, summary }) => `  ${`${name} ${form ?? ""}`.padEnd(WIDTH)}${summary}\n`);
      return `${title}\n${lines.join("")}`;
    }),
  );
  return `usage: dpe COMMAND …        dpe COMMAND --help: its options, with an example

${groups.join("\n")}
dpe --version says which this is. Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 authentication error.
`;
}

const WIDTH = 14;
/** `engines` of package.json. */
const LEAST_NODE = { major: 20, minor: 19 } as const;

for (const output of [process.stdout, process.stderr]) output.on("error", exitOfOutput);
main(process.argv.slice(2)).catch(exitWith);
