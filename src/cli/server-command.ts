import { readFileSync } from "node:fs";
import { pino } from "pino";
import { ConfigWatcher } from "#config/index.js";
import { formatAddress } from "#net/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { loadCredentials } from "#x509/index.js";
import { type Command, configFile } from "./command.js";
import { describe } from "./exit.js";
import { onHangup, untilSignal } from "./signals.js";

/**
 * `dpe server`: runs until SIGINT or SIGTERM, then closes its associations. Credentials and subscribers are read again when a
 * file of them changes, and on SIGHUP.
 */
export const serverCommand: Command = {
  name: "server",
  synopsis: "--config FILE",
  summary: "run a DPE Server",
  run: (words) => runServer(configFile(serverCommand, words)),
};

async function runServer(file: string): Promise<void> {
  const log = pino();
  const running: { server?: DpeServer } = {};
  const failed = (error: unknown): void => log.error({ error: describe(error) }, "reload-failed");
  const watcher = new ConfigWatcher(file, SERVER_SCHEMA, {
    onChange: (changed) => void running.server?.reload(changed).catch(failed),
    onFault: failed,
  });
  const config = watcher.value;
  const { certificate, key } = config.credentials;
  // A server that runs goes on when its certificate expires; one that starts with it would only be refused by every peer.
  if (certificate !== undefined && key !== undefined)
    loadCredentials(readFileSync(certificate, "utf8"), key.text(), Date.now());
  const server = await DpeServer.start(config, (event) => log.info(logged(event), event.type));
  running.server = server;
  onHangup(() => watcher.reload());
  const { coap, coaps, coapTcp, coapsTcp, radius } = server.addresses;
  const { dpe1, dpe2 } = config.interfaces;
  log.info(
    {
      coap: coap === undefined ? undefined : formatAddress(coap),
      coaps: coaps === undefined ? undefined : formatAddress(coaps),
      coapTcp: coapTcp === undefined ? undefined : formatAddress(coapTcp),
      coapsTcp: coapsTcp === undefined ? undefined : formatAddress(coapsTcp),
      radius: radius === undefined ? undefined : formatAddress(radius),
      dpe1: { connection: dpe1.connection, clientAuthentication: dpe1.clientAuthentication },
      dpe2,
    },
    "listening",
  );
  await untilSignal();
  watcher.close();
  await server.close();
  log.info("stopped");
}

function logged(event: ServerEvent): Record<string, unknown> {
  switch (event.type) {
    case "registered":
    case "gone": {
      const { endpoint, subscriber } = event.registration;
      return { endpoint, subscriber, ...(event.type === "gone" ? { cause: event.cause } : {}) };
    }
    case "report":
      return { endpoint: event.registration.endpoint, properties: event.records.length };
    case "authentication-error":
      return { peer: event.peer, error: event.error, rule: event.rule };
    case "audit":
      return { ...event.event };
    case "associations-restored":
      return { restored: event.restored, refused: event.refused, refusal: event.refusal };
    case "handshake-failed":
      return { peer: event.peer, cause: event.cause };
    case "client-error":
      return { subscriber: event.subscriber, authError: event.authError };
    case "reloaded":
      return { associationsEnded: event.associationsEnded };
    case "association-ended":
      return { peer: event.peer, cause: event.cause };
    case "radius":
      return { ...event.event };
    case "fault":
      return { error: describe(event.error) };
  }
}
