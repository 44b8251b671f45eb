import { readFileSync } from "node:fs";
import type { Logger } from "pino";
import { ConfigWatcher } from "#config/index.js";
import { type HttpListener, listenControl, listenHttp, Metrics, type Operation } from "#http/index.js";
import { Forwarder } from "#mqtt/index.js";
import { formatAddress } from "#net/index.js";
import { auditSourceOf } from "#security/index.js";
import {
  CertificateKeeper,
  checkServerCredentials,
  DpeServer,
  followFleet,
  renewOwn,
  SERVER_SCHEMA,
  type ServerConfig,
  type ServerEvent,
  storeLimits,
} from "#server/index.js";
import { Store, StoreError, type StoreHealth, type StoreOptions } from "#store/index.js";
import { type Banner, bannerOf, bannerText } from "./banner.js";
import { defaultControlPath } from "./control-path.js";
import { describe } from "./exit.js";
import { processLog } from "./process-log.js";
import { writeEvent, writeFault, writeHealth } from "./server-log.js";
import { serviceStatus } from "./service-status.js";
import { StrangerLines } from "./stranger-lines.js";
import { onHangup, untilSignal } from "./signals.js";
import { keepFlat } from "./small-process.js";
import { VERSION } from "./version.js";
import { apiSocketOf, configAt, serverIdOf, steeringAt, type WorkerPlace, type WorkerReady } from "./worker-place.js";

/** Runs a server until SIGINT or SIGTERM, then closes its associations. `worker`: as one process of several. */
export async function runServer(file: string, worker?: Worker): Promise<void> {
  keepFlat();
  const place = worker?.place;
  // From the beginning: the process that started this one may end before it listens.
  const alone = worker === undefined ? [] : [untilAlone()];
  const running: { log?: Logger; server?: DpeServer } = {};
  const failed = (error: unknown): void => running.log?.error({ error: describe(error) }, "reload-failed");
  // Credentials and subscribers are read again when a file of them changes, and on SIGHUP.
  const take = (changed: ServerConfig): void =>
    void running.server?.reload(place === undefined ? changed : configAt(changed, place)).catch(failed);
  const watcher = new ConfigWatcher(file, SERVER_SCHEMA, { onChange: take, onFault: failed });
  onHangup(() => watcher.reload());
  const begunWith = watcher.value;
  const config = place === undefined ? begunWith : configAt(begunWith, place);
  const log = await processLog(config.log, place === undefined ? null : { worker: place.index });
  running.log = log;
  // Also one that has expired, while the server was off.
  await renewOwn(config, (event) => writeEvent(log, event), Date.now());
  // A server that runs goes on when its certificate expires; one that starts with it would only be refused by every peer.
  checkServerCredentials(config, Date.now());
  const status = serviceStatus(place === undefined ? process.env : {});
  const parts = await startParts(config, log, place);
  running.server = parts.server;
  if (watcher.value !== begunWith) take(watcher.value);
  // From before it says that it listens.
  const signal = untilSignal();
  const keeper = new CertificateKeeper({
    config: () => watcher.value,
    certificates: (now) => parts.server.certificates(now),
    onEvent: (event) => parts.onEvent(event),
  });
  try {
    if (place === undefined || place.index === 0) await keeper.start();
    if (worker !== undefined) worker.onReady(readyOf(parts));
    else if (process.stdout.isTTY) process.stdout.write(bannerText(VERSION, parts.banner));
    else log.info({ version: VERSION, ...parts.banner, ...addressesOf(parts.server) }, "listening");
    status.ready();
    await Promise.race([signal, ...alone]);
  } finally {
    status.stopping();
    keeper.stop();
    watcher.close();
    await parts.close();
  }
  log.info("stopped");
}

/** Everything that runs in one server process. What fails to start ends what had started. */
async function startParts(config: ServerConfig, log: Logger, place: WorkerPlace | undefined): Promise<Parts> {
  const closers: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const one of closers.toReversed()) await one();
    closers.length = 0;
  };
  try {
    const metrics = new Metrics();
    const onHealth = (health: StoreHealth): void => {
      metrics.storeIs(health.isWell);
      writeHealth(log, health);
    };
    const options = { ...storeOptions(config, place), onHealth };
    const store = await Store.open(config.store ?? { type: "memory" }, options);
    closers.push(() => store.close());
    let forwarder: Forwarder | undefined;
    const strangers = new StrangerLines(STRANGER_LINES_PER_SECOND, isOfStrangers);
    const onEvent = (event: ServerEvent): void => {
      const leftOut = (lines: number): void => log.warn({ lines }, `${event.type}: left out`);
      if (strangers.admits(event, Date.now(), leftOut)) writeEvent(log, event);
      metrics.count(event);
      if (event.type === "gone") forwarder?.gone(event.registration.endpoint);
      audit(store, event, log);
    };
    const worker = place && (await steeringAt(place));
    // Where no socket of DTLS uses it, nobody else closes it.
    if (worker !== undefined) closers.push(() => worker.steering.close());
    const server = await DpeServer.start(config, onEvent, { store, ...(worker === undefined ? {} : { worker }) });
    closers.push(() => server.close());
    metrics.follow(server);
    if (server.steeringCounters !== undefined) metrics.followSteering(server.steeringCounters);
    const shown: { banner?: Banner } = {};
    const startedAt = new Date();
    const operation: Operation = {
      server,
      metrics,
      ...(place === undefined || place.index > 0 ? {} : { neighbours: neighboursOf(place) }),
      overview: async () => ({
        version: VERSION,
        server: store.server,
        startedAt: startedAt.toISOString(),
        realm: config.realm,
        devices: await store.registrations.count(),
        storeKind: store.backend.kind,
        certificates: server.certificates(Date.now()).map(({ role, subject, notAfterMs, state }) => ({
          role,
          subject,
          validUntil: new Date(notAfterMs).toISOString(),
          state,
        })),
        ...shown.banner,
        ...(place === undefined ? {} : { workers: `${place.count} processes` }),
      }),
      onFault: (error) => writeFault(log, error),
    };
    if (place !== undefined) {
      const own = await listenControl(apiSocketOf(place, place.index), operation);
      closers.push(() => own.close());
    }
    const isFirst = place === undefined || place.index === 0;
    if (config.mqtt !== undefined && isFirst) {
      const { username, password, ca, ...mqtt } = config.mqtt;
      const running = Forwarder.start({
        ...mqtt,
        store,
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password: password.reveal() }),
        ...(ca === undefined ? {} : { ca: readFileSync(ca, "utf8") }),
        onState: mqttLog(log),
        onIsolated: (topic, bytes) =>
          log.warn({ topic, bytes }, "mqtt refused: the broker ends the connection at such, which are left out"),
        onRefused: (messages) => metrics.refused(messages),
        onForwarded: (reports) => metrics.forwarded(reports),
        onDropped: (reports) => {
          metrics.dropped(reports);
          log.warn({ reports }, "reports dropped: too many wait for the MQTT broker");
        },
      });
      forwarder = running;
      closers.push(() => running.close());
      if (place !== undefined) {
        // A device that another process heard, or saw expire.
        const stop = await followFleet(store, ({ type, endpoint }) => type === "gone" && running.gone(endpoint));
        closers.push(() => Promise.resolve(stop()));
      }
    }
    const control = isFirst ? await startControl(config, operation, log) : undefined;
    if (control !== undefined) closers.push(() => control.close());
    const http = config.http === undefined ? undefined : await listenHttp(config.http, operation);
    if (http !== undefined) closers.push(() => http.close());
    const banner = bannerOf(config, server, { http: http?.address, control: control?.address });
    shown.banner = banner;
    return {
      banner,
      server,
      onEvent,
      httpPort: http === undefined ? undefined : Number(new URL(http.address).port),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The state of the forwarder, each fault once until it is connected again: it tries every other second. */
function mqttLog(log: Logger): (state: "connected" | "disconnected" | "failed", error?: unknown) => void {
  const told = new Set<string>();
  return (state, error) => {
    if (error instanceof StoreError) {
      writeFault(log, error);
      return;
    }
    const sentence = error === undefined ? "" : describe(error);
    if (state === "connected") told.clear();
    else if (told.has(`${state} ${sentence}`)) return;
    told.add(`${state} ${sentence}`);
    log[state === "connected" ? "info" : "warn"](error === undefined ? {} : { error: sentence }, `mqtt ${state}`);
  };
}

/** The default socket may be another server's; one that was asked for must not be. */
async function startControl(
  config: ServerConfig,
  operation: Operation,
  log: Logger,
): Promise<HttpListener | undefined> {
  if (config.control === "none") return undefined;
  const path = config.control ?? defaultControlPath();
  try {
    return await listenControl(path, operation);
  } catch (error) {
    if (config.control !== undefined) throw error;
    log.warn({ error: describe(error) }, "no control socket: set control: to a path of its own");
    return undefined;
  }
}

function storeOptions(config: ServerConfig, place: WorkerPlace | undefined): StoreOptions {
  const { values, age } = config.history;
  return {
    limits: { ...storeLimits(config.limits), maxAgeMs: age, ...(values === undefined ? {} : { maxValues: values }) },
    ...(place === undefined ? {} : { server: serverIdOf(place, place.index) }),
    hasOutbox: config.mqtt !== undefined,
    dangerVolatile: config.dangerVolatileStore,
  };
}

/** What failed, so that an operator may ask about it later. A challenge is no failure: it is how Digest begins. */
function audit(store: Store, event: ServerEvent, log: Logger): void {
  if (event.type !== "audit" || event.event.outcome === "success") return;
  if (event.event.cause === "credentials-required") return;
  const { time, ...fields } = event.event;
  store.audit
    .append({ type: "authentication", ...fields }, time, auditSourceOf(event.event))
    .catch((error: unknown) => writeFault(log, error));
}

/** For programs that read the log: the addresses by themselves. */
function addressesOf(server: DpeServer): Record<string, string> {
  return Object.fromEntries(
    Object.entries(server.addresses).flatMap(([name, address]) =>
      address === undefined ? [] : [[name, formatAddress(address)]],
    ),
  );
}

interface Parts {
  readonly banner: Banner;
  readonly server: DpeServer;
  /** Logs and counts. */
  readonly onEvent: (event: ServerEvent) => void;
  readonly httpPort: number | undefined;
  close(): Promise<void>;
}

/** For the process that started this one. */
function readyOf({ banner, server, httpPort }: Parts): WorkerReady {
  const { coap, coaps, coapTcp, coapsTcp } = server.addresses;
  const ports = Object.fromEntries(
    Object.entries({ coap, coaps, coapTcp, coapsTcp }).flatMap(([name, address]) =>
      address === undefined ? [] : [[name, address.port]],
    ),
  );
  return {
    banner,
    ports: { ...ports, ...(httpPort === undefined ? {} : { http: httpPort }) },
    addresses: addressesOf(server),
  };
}

function isOfStrangers(event: ServerEvent): boolean {
  if (event.type === "authentication-error") return event.error !== "credentials-required";
  return event.type === "handshake-failed" || (event.type === "client-error" && event.subscriber === undefined);
}

function neighboursOf(place: WorkerPlace): ReadonlyMap<string, string> {
  const others = Array.from({ length: place.count }, (_, index) => index).filter((index) => index !== place.index);
  return new Map(others.map((index) => [serverIdOf(place, index), apiSocketOf(place, index)]));
}

/** One process of several. */
interface Worker {
  readonly place: WorkerPlace;
  /** Told once it listens. */
  onReady(ready: WorkerReady): void;
}

/** Fulfilled when the process that started this one has ended. */
function untilAlone(): Promise<void> {
  if (!process.connected) return Promise.resolve();
  return new Promise((resolve) => process.once("disconnect", () => resolve()));
}

const STRANGER_LINES_PER_SECOND = 20;
