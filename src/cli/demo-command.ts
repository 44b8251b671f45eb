import { randomBytes, randomInt } from "node:crypto";
import {
  AGENT_SCHEMA,
  type AgentConfig,
  type AgentEvent,
  DpeAgent,
  type FirmwareSourceEvent,
  hostSource,
  type Source,
  sourcesOf,
} from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { formatAddress } from "#net/index.js";
import type { SenmlRecord } from "#senml/index.js";
import { DpeServer, recordsOf, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { pause } from "#waiting/index.js";
import { type Command, parseWords } from "./command.js";
import { bootFirmware, type EmulatedBoard } from "./demo-firmware.js";
import { DEVICE_PROFILES } from "#sim/index.js";
import { describe } from "./exit.js";
import { untilSignal } from "./signals.js";

/**
 * `dpe demo`: a server and an agent on this machine, paired over DTLS with Digest, three simulated devices and one with a
 * wrong password. Fails unless each of them was seen to do what it should.
 */
export const demoCommand: Command = {
  name: "demo",
  synopsis: "[--keep] [--firmware]",
  summary: "a server, this machine as agent and three simulated devices, paired over DTLS",
  help: `  --keep          stay until Ctrl-C
  --firmware      also a microcontroller, emulated by QEMU (qemu-system-arm and gcc-arm-none-eabi are needed)`,
  example: "dpe demo --keep",
  run: (words) => {
    const options = {
      keep: { type: "boolean", default: false },
      firmware: { type: "boolean", default: false },
    } as const;
    const { keep, firmware } = parseWords(demoCommand, words, options).values;
    return runDemo(keep, firmware);
  },
};

async function runDemo(keep: boolean, hasFirmware: boolean): Promise<void> {
  const key = randomBytes(16).toString("hex");
  const seen = new Seen();
  const server = await DpeServer.start(parseConfig(serverConfig(key), "demo-server.yaml", SERVER_SCHEMA), (event) =>
    onServerEvent(event, seen),
  );
  const { coaps } = server.addresses;
  if (coaps === undefined) throw new Error("the demo's server has no coaps port");
  say("server", `listening on coaps://${formatAddress(coaps)}; DPE-1: dtls, Digest SHA-256`);
  const configure = (endpoint: string, password: string): AgentConfig =>
    parseConfig(agentConfig(endpoint, coaps.port, key, password), `demo-${endpoint}.yaml`, AGENT_SCHEMA);
  const started: DpeAgent[] = [];
  let board: EmulatedBoard | undefined;
  const start = (endpoint: string, password: string, sources: readonly Source[]): DpeAgent => {
    const agent = new DpeAgent(configure(endpoint, password), sources, (event) => onAgentEvent(endpoint, event));
    started.push(agent);
    return agent;
  };
  try {
    start("this-machine", "correct horse", [hostSource(1000)]);
    await seen.endpoint("this-machine", 2);
    show(await server.store.properties.latest("this-machine"));

    const [uptime] = await server.query("this-machine", "uptime");
    if (uptime === undefined) throw new Error("the agent answered DPE-2 without its uptime");
    say("server", `DPE-2 query of uptime answered: ${String(uptime.value)} ${uptime.unit ?? ""}`);
    const observation = await server.observe("this-machine", "uptime");
    for await (const notification of observation) {
      say("server", `DPE-2 notification of uptime: ${String(recordsOf(notification)[0]?.value)} s`);
      break;
    }

    if (hasFirmware) {
      board = await bootFirmware();
      say("firmware", `built for a Cortex-M3 and booted in QEMU, ${board.board}; its UART is ${board.port}`);
      const gateway = parseConfig(
        `${agentConfig("gateway", coaps.port, key, "correct horse")}${firmwareSources(board.port)}`,
        "demo-gateway.yaml",
        AGENT_SCHEMA,
      );
      started.push(
        new DpeAgent(gateway, sourcesOf(gateway.sources, onFirmwareEvent), (event) => onAgentEvent("gateway", event)),
      );
      await showFirmware(server);
    }

    for (const name of ["sim-1", "sim-2", "sim-3"]) start(name, "correct horse", [simulatedSource()]);
    await Promise.all(["sim-1", "sim-2", "sim-3"].map((name) => seen.endpoint(name, 2)));
    const wrong = start("sim-wrong", "wrong password", [simulatedSource()]);
    const refusal = await wrong.stopped.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (refusal === undefined || !describe(refusal).includes("invalid-credentials")) {
      throw new Error("the wrong password was not refused with invalid-credentials");
    }
    say(
      "demo",
      `${await server.store.registrations.count()} devices paired and reporting, the one with a wrong password refused`,
    );
    if (keep) {
      say(
        "demo",
        `running on coaps://${formatAddress(coaps)} with PSK identity fleet, key hex:${key}; end it with Ctrl-C`,
      );
      await untilSignal();
    }
  } finally {
    await Promise.all(started.map((agent) => agent.close()));
    await server.close();
    await board?.end();
  }
}

/** The emulated microcontroller through an agent of its own: discovered, reporting, queried and set over DPE-2. */
async function showFirmware(server: DpeServer): Promise<void> {
  const temperature = await untilReported(server, "gateway", "mcu/temperature");
  say("server", `mcu/temperature is ${String(temperature.value)} ${temperature.unit ?? ""}`);
  const [uptime] = await server.query("gateway", "mcu/uptime");
  if (uptime === undefined) throw new Error("the microcontroller did not answer DPE-2");
  say("server", `DPE-2 query of mcu/uptime, answered by the microcontroller: ${String(uptime.value)} s`);
  await server.set("gateway", "mcu/led", true);
  const led = (await server.query("gateway", "mcu/led")).find(({ name }) => name === "mcu/led");
  if (led?.value !== true) throw new Error("the microcontroller's LED was not set");
  say("server", "DPE-2 has set mcu/led, which the agent's configuration allows: it is on");
}

function onFirmwareEvent(event: FirmwareSourceEvent): void {
  if (event.type === "connected") say("gateway", `discovered ${event.properties.map(({ name }) => name).join(", ")}`);
  else if (event.type === "diagnostic") say("firmware", event.text);
  else if (event.type === "lost") say("gateway", `the microcontroller was lost: ${event.cause}`);
}

/** A property as soon as the server has it. */
async function untilReported(server: DpeServer, endpoint: string, name: string): Promise<SenmlRecord> {
  for (const end = performance.now() + TIMEOUT_MS; performance.now() < end;) {
    const [record] = await server.store.properties.latestOf(endpoint, [name]);
    if (record !== undefined) return record;
    await pause(20);
  }
  throw new Error(`${endpoint} did not report ${name} within ${TIMEOUT_MS / 1000} s`);
}

/** Counts reports by endpoint, so that the demo waits for what it shows. */
class Seen {
  readonly #reports = new Map<string, number>();
  readonly #waiting: { readonly endpoint: string; readonly count: number; resolve(): void }[] = [];

  report(endpoint: string): void {
    this.#reports.set(endpoint, (this.#reports.get(endpoint) ?? 0) + 1);
    for (const waiting of this.#waiting) {
      if (waiting.endpoint === endpoint && (this.#reports.get(endpoint) ?? 0) >= waiting.count) waiting.resolve();
    }
  }

  endpoint(endpoint: string, count: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${endpoint} was not heard of within ${TIMEOUT_MS / 1000} s`)),
        TIMEOUT_MS,
      );
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      if ((this.#reports.get(endpoint) ?? 0) >= count) done();
      else this.#waiting.push({ endpoint, count, resolve: done });
    });
  }
}

function onServerEvent(event: ServerEvent, seen: Seen): void {
  switch (event.type) {
    case "registered":
      say(
        "server",
        `${event.registration.endpoint} registered as subscriber ${event.registration.subscriber ?? "(none)"}`,
      );
      return;
    case "report":
      seen.report(event.registration.endpoint);
      return;
    case "authentication-error":
      // The first message of a client has no credentials yet: it is answered by the challenge (R15).
      if (event.error === "credentials-required")
        say("server", `challenge to ${event.peer}: Digest, with a fresh nonce`);
      else say("server", `authentication error to ${event.peer}: ${event.error} (${event.rule})`);
      return;
    case "gone":
      say("server", `${event.registration.endpoint} ${event.cause}`);
      return;
    case "handshake-failed":
      say("server", `handshake with ${event.peer} failed: ${event.cause}`);
      return;
    case "name-contested":
    case "address-changed":
    case "address-refused":
    case "audit":
    case "associations-restored":
    case "client-error":
    case "pairing":
    case "radius":
    case "reloaded":
    case "association-ended":
    case "certificate-ending":
    case "certificate-renewed":
    case "certificate-renewal-failed":
      return;
    case "fault":
      say("server", `fault: ${describe(event.error)}`);
      return;
  }
}

function onAgentEvent(endpoint: string, event: AgentEvent): void {
  if (event.type === "registered") say(endpoint, "registered over DTLS: challenged, answered by Digest, accepted");
  else if ("error" in event) say(endpoint, describe(event.error));
}

function show(properties: readonly SenmlRecord[]): void {
  for (const { name, value, unit } of properties) {
    process.stdout.write(`  ${name.padEnd(28)} ${String(value)}${unit === undefined ? "" : ` ${unit}`}\n`);
  }
}

function say(who: string, what: string): void {
  process.stdout.write(`${who.padEnd(13)} ${what}\n`);
}

/** A battery sensor, as `dpe sim` has it, that is heard each second. */
function simulatedSource(): Source {
  const read = DEVICE_PROFILES["battery-sensor"].readings(randomInt(2 ** 31));
  return { name: "simulated", everyMs: 1000, read: () => Promise.resolve(read(performance.now() / 1000)) };
}

function serverConfig(key: string): string {
  return `
realm: demo.dpe.example
credentials: { psk: [{ identity: fleet, key: "hex:${key}" }] }
interfaces:
  dpe1:
    listen: { host: 127.0.0.1, coaps: 0 }
    connection: dtls
    clientAuthentication: [digest]
subscribers:
  - { name: alice, password: correct horse, endpoints: ["this-machine", "gateway", "sim-*"] }
`;
}

function agentConfig(endpoint: string, port: number, key: string, password: string): string {
  return `
endpoint: ${endpoint}
server: coaps://127.0.0.1:${port}
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: psk
    credentials: { username: alice, password: ${password}, psk: { identity: fleet, key: "hex:${key}" } }
  dpe2: { bind: association }
`;
}

function firmwareSources(port: string): string {
  return `sources: [{ use: firmware, port: "${port}", every: 1s, writable: [led] }]\n`;
}

const TIMEOUT_MS = 10_000;
