import { type Logger, pino } from "pino";
import {
  AGENT_SCHEMA,
  type AgentConfig,
  type AgentEvent,
  agentsOf,
  DpeAgent,
  type FirmwareSourceEvent,
  sourcesOf,
} from "#agent/index.js";
import { loadConfig } from "#config/index.js";
import { type Command, parseWords } from "./command.js";
import { describe, UsageError } from "./exit.js";
import { untilSignal } from "./signals.js";
import { serviceStatus } from "./service-status.js";

/** `dpe agent`: runs until SIGINT or SIGTERM, or an authentication error. */
export const agentCommand: Command = {
  name: "agent",
  synopsis: "--config FILE [--once]",
  summary: "run a DPE Client on this machine; --once: report all properties, then end",
  run: (words) => {
    const options = { config: { type: "string" }, once: { type: "boolean", default: false } } as const;
    const { config, once } = parseWords(agentCommand, words, options).values;
    if (config === undefined) throw new UsageError("dpe agent needs --config FILE");
    return runAgent(loadConfig(config, AGENT_SCHEMA), once);
  },
};

async function runAgent(config: AgentConfig, isOnce: boolean): Promise<void> {
  const log = pino();
  const status = serviceStatus();
  let report: (outcome: Outcome) => void = () => undefined;
  const reported = new Promise<Outcome>((resolve) => (report = resolve));
  const [gateway = config, ...others] = agentsOf(config);
  const sourcesFor = (own: AgentConfig): ReturnType<typeof sourcesOf> =>
    sourcesOf(own.sources, (event) => writeFirmware(log, event));
  const agent = new DpeAgent(gateway, sourcesFor(gateway), (event) => {
    write(log, event);
    if (event.type === "registered") status.tell(`registered as ${event.endpoint}`);
    if (event.type === "lost") status.tell(`without a server: ${describe(event.error)}`);
    if (event.type === "lost") report({ error: event.error });
    if (event.type === "reported" && event.unsent === 0) report({});
  });
  // Microcontrollers that are endpoints of their own: one that is refused does not stop the gateway.
  const firmware = others.map((own) => new DpeAgent(own, sourcesFor(own), (event) => write(log, event)));
  status.ready();
  try {
    const ends = [untilSignal(), agent.stopped];
    if (!isOnce) await Promise.race(ends);
    else {
      const outcome = await Promise.race([reported, ...ends]);
      if (outcome?.error !== undefined) throw outcome.error;
    }
  } finally {
    status.stopping();
    // What was reported once stays readable at the server until its lifetime ends.
    await Promise.all([agent, ...firmware].map((one) => one.close({ keepsRegistration: isOnce })));
  }
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

function write(log: Logger, event: AgentEvent): void {
  const { type, ...facts } = event;
  switch (type) {
    case "lost":
    case "not-returned":
    case "source-failed":
    case "store-failed":
    case "refused":
      log.warn({ ...facts, error: describe("error" in facts ? facts.error : undefined) }, type);
      return;
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
    case "registered":
    case "restored":
    case "store-recovered":
    case "source-recovered":
      log.info(facts, type);
  }
}
