import { ConfigWatcher } from "#config/index.js";
import { formatAddress } from "#net/index.js";
import { DpeProxy, PROXY_SCHEMA, type ProxyEvent } from "#proxy/index.js";
import { type Command, configFile } from "./command.js";
import { describe } from "./exit.js";
import { processLog } from "./process-log.js";
import { onHangup, untilSignal } from "./signals.js";

/** `dpe proxy`: runs until SIGINT or SIGTERM, then closes its associations. */
export const proxyCommand: Command = {
  name: "proxy",
  synopsis: "[--config FILE]",
  summary: "run a CoAP proxy that tells servers who its clients are",
  help: `  --config FILE   its configuration; default: proxy.yaml here (docs/external-authentication.md has one)`,
  example: "dpe proxy --config /etc/dpe/proxy.yaml",
  run: (words) => runProxy(configFile(proxyCommand, words, "proxy.yaml")),
};

async function runProxy(file: string): Promise<void> {
  const log = await processLog();
  const running: { proxy?: DpeProxy } = {};
  const failed = (error: unknown): void => log.error({ error: describe(error) }, "reload-failed");
  const watcher = new ConfigWatcher(file, PROXY_SCHEMA, {
    onChange: (changed) => void running.proxy?.reload(changed).catch(failed),
    onFault: failed,
  });
  const config = watcher.value;
  const proxy = await DpeProxy.start(config, (event) => log.info(logged(event), event.type));
  running.proxy = proxy;
  onHangup(() => watcher.reload());
  const { coap, coaps, radius } = proxy.addresses;
  log.info(
    {
      coap: coap === undefined ? undefined : formatAddress(coap),
      coaps: coaps === undefined ? undefined : formatAddress(coaps),
      radius: radius === undefined ? undefined : formatAddress(radius),
      targets: config.targets.map(({ uri }) => uri.href),
    },
    "listening",
  );
  await untilSignal();
  watcher.close();
  await proxy.close();
  log.info("stopped");
}

function logged(event: ProxyEvent): Record<string, unknown> {
  switch (event.type) {
    case "refused":
      return { peer: event.peer, rule: event.rule };
    case "target-failed":
      return { target: event.target, error: describe(event.error) };
    case "handshake-failed":
      return { peer: event.peer, cause: event.cause };
    case "reloaded":
      return { associationsEnded: event.associationsEnded, changedButWaiting: event.waiting };
    case "radius":
      return { ...event.event };
    case "fault":
      return { error: describe(event.error) };
  }
}
