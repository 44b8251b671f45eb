import type { Logger } from "pino";
import {
  AGENT_SCHEMA,
  type AgentConfig,
  type AgentEvent,
  agentsOf,
  checkCredentials,
  DpeAgent,
  type FirmwareSourceEvent,
  serversOf,
  sourcesOf,
} from "#agent/index.js";
import { ConfigWatcher } from "#config/index.js";
import { type Command, parseWords, usualFile } from "./command.js";
import { describe } from "./exit.js";
import { processLog } from "./process-log.js";
import { onHangup, untilSignal } from "./signals.js";
import { serviceStatus } from "./service-status.js";
import { StrangerLines } from "./stranger-lines.js";

/** `dpe agent`: runs until SIGINT or SIGTERM, or an authentication error; SIGHUP has it read its configuration again. */
export const agentCommand: Command = {
  name: "agent",
  synopsis: "[--config FILE] [--once]",
  summary: "run a DPE Client on this machine",
  help: `  --config FILE   its configuration; default: agent.yaml here (dpe pair or dpe init agent makes one)
  --once          report all properties, then end; what was reported stays readable at the server
SIGTERM ends it in order, SIGHUP has it read its configuration again, as a change of the file does.`,
  example: "dpe agent --config /etc/dpe/agent.yaml",
  run: async (words) => {
    const options = { config: { type: "string" }, once: { type: "boolean", default: false } } as const;
    const { config, once } = parseWords(agentCommand, words, options).values;
    return runAgent(config ?? usualFile(agentCommand, "agent.yaml"), once);
  },
};

/**
 * Begins anew when the file changes, or one that it names: a certificate, an anchor, a key, a password. The association that
 * the old ones made ends then. A file that does not serve is logged, and changes nothing.
 */
async function runAgent(file: string, isOnce: boolean): Promise<void> {
  const log = await processLog();
  const status = serviceStatus();
  const signal = untilSignal();
  let changed: (config: AgentConfig) => void = () => undefined;
  const failed = (error: unknown): void => log.error({ error: describe(error) }, "reload-failed");
  const watcher = new ConfigWatcher(file, AGENT_SCHEMA, {
    onChange: (config) => {
      checkCredentials(config);
      changed(config);
    },
    onFault: failed,
  });
  onHangup(() => watcher.reload());
  try {
    for (let config: AgentConfig | undefined = watcher.value; config !== undefined;) {
      const next = new Promise<AgentConfig>((resolve) => (changed = resolve));
      config = await runUntil(config, { log, status, signal, next, isOnce });
      if (config !== undefined) log.info("reloaded");
    }
  } finally {
    watcher.close();
    status.stopping();
  }
}

interface Running {
  readonly log: Logger;
  readonly status: ReturnType<typeof serviceStatus>;
  readonly signal: Promise<void>;
  readonly next: Promise<AgentConfig>;
  readonly isOnce: boolean;
}

/** Runs the agents of a configuration until there is another, which it gives, or they are to stop. */
async function runUntil(
  config: AgentConfig,
  { log, status, signal, next, isOnce }: Running,
): Promise<AgentConfig | undefined> {
  let report: (outcome: Outcome) => void = () => undefined;
  const reported = new Promise<Outcome>((resolve) => (report = resolve));
  const [gateway = config, ...others] = agentsOf(config);
  const sourcesFor = (own: AgentConfig): ReturnType<typeof sourcesOf> =>
    sourcesOf(own.sources, (event) => writeFirmware(log, event));
  const strangers = new StrangerLines(STRANGER_LINES_PER_SECOND, isOfStrangers);
  const agent = new DpeAgent(gateway, sourcesFor(gateway), (event) => {
    write(log, strangers, event);
    if (event.type === "registered") status.tell(`registered as ${event.endpoint}`);
    if (event.type === "heard") status.tell(`heard of ${event.server} again`);
    if (event.type === "lost") status.tell(`without a server: ${describe(event.error)}`);
    if (event.type === "lost") report({ error: event.error });
    if (event.type === "reported" && event.unsent === 0) report({});
  });
  // Microcontrollers that are endpoints of their own: one that is refused does not stop the gateway.
  const firmware = others.map((own) => new DpeAgent(own, sourcesFor(own), (event) => write(log, strangers, event)));
  log.info({ endpoint: config.endpoint, server: serversOf(config).map(({ server }) => server.href) }, "starting");
  status.ready();
  let follower: AgentConfig | undefined;
  try {
    const ends = [signal, agent.stopped];
    if (!isOnce) follower = (await Promise.race([next, ...ends])) ?? undefined;
    else {
      const outcome = await Promise.race([reported, ...ends]);
      if (outcome?.error !== undefined) throw outcome.error;
    }
  } finally {
    // What was reported once stays readable at the server until its lifetime ends; and who comes back needs no leave.
    const keepsRegistration = isOnce || follower !== undefined;
    if (follower !== undefined && config.store === undefined && agent.unsent > 0)
      log.warn({ readings: agent.unsent }, "readings that wait in memory are lost: set store");
    await Promise.all([agent, ...firmware].map((one) => one.close({ keepsRegistration })));
  }
  return follower;
}

/** The end of `--once`: all was reported, or the server could not be reached. */
interface Outcome {
  readonly error?: unknown;
}

function writeFirmware(log: Logger, event: FirmwareSourceEvent): void {
  const { type, ...facts } = event;
  if (event.type === "connected") {
    const properties = event.properties.map(({ name }) => name);
    log.info({ port: event.port, properties }, "firmware-connected");
  } else {
    log[event.type === "diagnostic" ? "info" : "warn"](facts, `firmware-${type}`);
  }
}

/** What an agent that listens for DPE-2 refuses, anybody can ask for. */
function isOfStrangers(event: AgentEvent): boolean {
  return event.type === "server-error" || (event.type === "audit" && event.event.outcome === "failure");
}

/** Of an agent: its log may be on a memory card. */
const STRANGER_LINES_PER_SECOND = 1;

function write(log: Logger, strangers: StrangerLines<AgentEvent>, event: AgentEvent): void {
  const { type, ...facts } = event;
  if (!strangers.admits(event, Date.now(), (lines) => log.warn({ lines }, `${type}: left out`))) return;
  switch (type) {
    case "lost":
    case "not-returned":
    case "source-failed":
    case "renewal-failed":
    case "store-failed":
    case "refused":
      log.warn({ ...facts, error: describe("error" in facts ? facts.error : undefined) }, type);
      return;
    case "silent":
    case "moved":
    case "dropped":
    case "discarded":
    case "server-error":
      log.warn(facts, type);
      return;
    case "queried":
    case "reported":
      log.debug(facts, type);
      return;
    case "audit": {
      const { outcome, ...rest } = "event" in facts ? facts.event : { outcome: "failure" as const };
      if (outcome === "failure") log.warn({ outcome, ...rest }, type);
      else log.debug({ outcome, ...rest }, type);
      return;
    }
    case "clock":
      if ("isTrusted" in facts && facts.isTrusted) log.info("the wall clock is trusted again");
      else log.warn("the wall clock is not trusted: readings are dated by the time since boot");
      return;
    case "renewed":
      log.info({ validUntil: new Date("validUntil" in facts ? facts.validUntil : 0).toISOString() }, type);
      return;
    case "heard":
    case "trust-renewed":
    case "registered":
    case "restored":
    case "store-recovered":
    case "source-recovered":
      log.info(facts, type);
  }
}
