import { readFileSync } from "node:fs";
import { AGENT_SCHEMA, type AgentConfig, clientPolicy } from "#agent/index.js";
import { loadConfig } from "#config/index.js";
import { INTERFACES, type InterfaceName } from "#dpe/index.js";
import {
  CLIENT_AUTHENTICATIONS,
  type ClientPolicy,
  exchangeOf,
  explain,
  SecurityError,
  SERVER_AUTHENTICATIONS,
  type ServerPolicy,
  type Subscriber,
} from "#security/index.js";
import { SERVER_SCHEMA, type ServerConfig } from "#server/index.js";
import { kindOf } from "./check-command.js";
import { type Command, misuse, parseWords } from "./command.js";
import { UsageError } from "./exit.js";

/** `dpe explain`: what a policy decides on an exchange, described in words or recorded in the audit trail, and by which rule. */
export const explainCommand: Command = {
  name: "explain",
  synopsis: "--config FILE | --policy LEVEL:MODE,… [--interface dpe1|dpe2] [--offer NAME=VALUE]… [--event JSON|-]",
  summary: "say what a policy decides on an exchange, and by which rule",
  help: `A policy is a configuration's, or given as dtls:certificate,digest. What is offered: connection=dtls, requestedConnection=dtls,
certificate=alice, psk=unknown, digest=invalid-credentials and the like; or an event of the log as JSON, - for standard input.`,
  example: "dpe explain --policy dtls:certificate,digest --offer connection=dtls --offer digest=alice",
  run: (words) => runExplain(words),
};

function runExplain(words: readonly string[]): Promise<void> {
  const { values } = parseWords(explainCommand, words, {
    config: { type: "string" },
    policy: { type: "string" },
    interface: { type: "string" },
    offer: { type: "string", multiple: true },
    event: { type: "string" },
  });
  if ((values.config === undefined) === (values.policy === undefined))
    throw misuse(explainCommand, "either --config FILE or --policy LEVEL:MODE,… is needed");
  const recorded = values.event === undefined ? undefined : eventOf(values.event);
  const name = INTERFACES.find((one) => one === (values.interface ?? recorded?.interface ?? "dpe1"));
  if (name === undefined) throw new UsageError(`dpe explain: --interface is one of ${INTERFACES.join(", ")}`);
  const { policy, subscriberOf } =
    values.config === undefined ? policyFromWords(values.policy ?? "") : policyFromFile(values.config, name);
  const offered = { ...recorded?.offer, ...offersOf(values.offer ?? []) };
  try {
    process.stdout.write(explain(exchangeOf({ interface: name, policy, offered, subscriberOf })));
  } catch (error) {
    if (error instanceof SecurityError) throw new UsageError(`dpe explain: ${error.message}`);
    throw error;
  }
  return Promise.resolve();
}

interface Found {
  readonly policy: ServerPolicy | ClientPolicy;
  readonly subscriberOf: (name: string) => Subscriber | undefined;
}

/** `dtls:certificate,digest`: of a client, where only servers know the modes, else of a server. */
function policyFromWords(text: string): Found {
  const [connection = "", list = ""] = text.split(":");
  const modes = list.split(",");
  if (connection !== "none" && connection !== "dtls")
    throw new UsageError("dpe explain: a policy begins with none: or dtls:");
  const subscriberOf = (name: string): Subscriber => ({ name });
  const clientModes = CLIENT_AUTHENTICATIONS.filter((mode) => modes.includes(mode));
  if (clientModes.length === modes.length)
    return { policy: { connection, clientAuthentication: inOrder(modes, clientModes) }, subscriberOf };
  const serverModes = SERVER_AUTHENTICATIONS.filter((mode) => modes.includes(mode));
  if (serverModes.length !== modes.length)
    throw new UsageError(
      `dpe explain: modes are ${CLIENT_AUTHENTICATIONS.join(", ")}, or of a client ${SERVER_AUTHENTICATIONS.join(", ")}`,
    );
  return { policy: { connection, serverAuthentication: inOrder(modes, serverModes) }, subscriberOf };
}

function inOrder<Mode extends string>(order: readonly string[], modes: readonly Mode[]): readonly Mode[] {
  return modes.toSorted((a, b) => order.indexOf(a) - order.indexOf(b));
}

function policyFromFile(file: string, name: InterfaceName): Found {
  if (kindOf(file) === "agent") {
    const config: AgentConfig = loadConfig(file, AGENT_SCHEMA);
    return { policy: clientPolicy(config.interfaces[name]), subscriberOf: () => undefined };
  }
  const config: ServerConfig = loadConfig(file, SERVER_SCHEMA);
  const { connection, clientAuthentication } = config.interfaces[name];
  const subscriberOf = (wanted: string): Subscriber | undefined => {
    const found = config.subscribers.find(({ name: one, banned }) => one === wanted && banned !== true);
    return found === undefined
      ? undefined
      : { name: wanted, ...(found.interfaces === undefined ? {} : { interfaces: found.interfaces }) };
  };
  return { policy: { connection, clientAuthentication }, subscriberOf };
}

function offersOf(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const [name = "", ...value] = word.split("=");
      if (value.length === 0) throw new UsageError(`dpe explain: --offer ${word} is not NAME=VALUE`);
      return [name, value.join("=")];
    }),
  );
}

/** An audit event, alone or as a line of the log. */
function eventOf(text: string): { readonly interface: string; readonly offer: Record<string, string> } {
  let event: unknown;
  try {
    event = JSON.parse(text === "-" ? readFileSync(0, "utf8") : text);
  } catch {
    throw new UsageError("dpe explain: the event is not JSON");
  }
  const offer = typeof event === "object" && event !== null && "offer" in event ? event.offer : undefined;
  const name = typeof event === "object" && event !== null && "interface" in event ? event.interface : undefined;
  if (typeof offer !== "object" || offer === null || typeof name !== "string")
    throw new UsageError(
      "dpe explain: the event has no interface and offer; a handshake that failed was never decided on",
    );
  return {
    interface: name,
    offer: Object.fromEntries(Object.entries(offer).map(([key, value]) => [key, String(value)])),
  };
}
