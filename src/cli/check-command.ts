import { AGENT_SCHEMA, checkCredentials } from "#agent/index.js";
import { loadConfig, renderConfig } from "#config/index.js";
import { checkProxyCredentials, PROXY_SCHEMA } from "#proxy/index.js";
import {
  certificateSentence,
  checkServerCredentials,
  ownCertificates,
  SERVER_SCHEMA,
  type ServerConfig,
} from "#server/index.js";
import { loadTrustAnchors } from "#x509/index.js";
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { type Command, configFile } from "./command.js";

/** `dpe check`: an agent's file names an `endpoint`, a proxy's `targets`. */
export const checkCommand: Command = {
  name: "check",
  synopsis: "[--config FILE]",
  summary: "check a configuration and print what it comes to, secrets masked",
  help: `  --config FILE   of a server, an agent or a proxy; default: server.yaml, agent.yaml or proxy.yaml here
Certificates and keys are read as at a start; until when they are valid is told on standard error.`,
  example: "dpe check --config /etc/dpe/server.yaml",
  run: (words) => runCheck(configFile(checkCommand, words, "server.yaml", "agent.yaml", "proxy.yaml")),
};

function runCheck(config: string): Promise<void> {
  process.stdout.write(checked(config));
  return Promise.resolve();
}

function checked(config: string): string {
  switch (kindOf(config)) {
    case "agent":
      return renderConfig(AGENT_SCHEMA, usable(loadConfig(config, AGENT_SCHEMA), checkCredentials));
    case "proxy":
      return renderConfig(PROXY_SCHEMA, usable(loadConfig(config, PROXY_SCHEMA), checkProxyCredentials));
    case "server": {
      const loaded = usable(loadConfig(config, SERVER_SCHEMA), (one) => checkServerCredentials(one, 0));
      tellEnds(loaded);
      return renderConfig(SERVER_SCHEMA, loaded);
    }
  }
}

/** Also what the files hold. */
function usable<T>(config: T, check: (config: T) => void): T {
  check(config);
  return config;
}

/** On standard error, so that what is printed stays YAML: until when each certificate is valid. */
function tellEnds({ credentials: { certificate, ca }, pairing }: ServerConfig): void {
  const now = Date.now();
  const read = (file: string | undefined): readonly Uint8Array[] =>
    file === undefined ? [] : loadTrustAnchors(readFileSync(file, "utf8"));
  const material = {
    server: read(certificate).slice(0, 1),
    "client-ca": read(ca),
    "pairing-ca": read(pairing?.ca).slice(0, 1),
  };
  for (const own of ownCertificates(material, now)) {
    const warning = own.state === "valid" ? "" : "; renew it: dpe renew, or whoever issued it";
    process.stderr.write(`${certificateSentence(own, now)}${warning}\n`);
  }
}

/** Whatever cannot be read is left to `loadConfig`, which says what is wrong. */
export function kindOf(file: string): "agent" | "proxy" | "server" {
  try {
    const root: unknown = parse(readFileSync(file, "utf8"));
    if (typeof root !== "object" || root === null) return "server";
    if ("endpoint" in root || "server" in root) return "agent";
    return "targets" in root ? "proxy" : "server";
  } catch {
    return "server";
  }
}
