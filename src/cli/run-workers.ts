import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logger } from "pino";
import { loadConfig } from "#config/index.js";
import { listenStream, UdpSocket } from "#net/index.js";
import { SERVER_SCHEMA, type ServerConfig } from "#server/index.js";
import { bannerText } from "./banner.js";
import { UsageError } from "./exit.js";
import { VERSION } from "./version.js";
import { processLog } from "./process-log.js";
import { serviceStatus } from "./service-status.js";
import { onHangup, untilSignal } from "./signals.js";
import { SIGN_OF_LIFE, SIGN_OF_LIFE_MS, type WorkerPlace, type WorkerReady } from "./worker-place.js";

/**
 * Runs a server as several processes on its ports until SIGINT or SIGTERM. One that ends by itself, or hangs, is started again;
 * SIGHUP goes to each.
 *
 * @throws UsageError for a configuration that several processes cannot share.
 */
export async function runWorkers(file: string, count: number): Promise<void> {
  const config = loadConfig(file, SERVER_SCHEMA);
  const fault = unshareable(config);
  if (fault !== undefined) throw new UsageError(`--workers ${count}: ${fault}`);
  await probePorts(config);
  const log = await processLog(config.log);
  const status = serviceStatus();
  const folder = mkdtempSync(join(tmpdir(), "dpe-workers-"));
  const workers = new Workers(file, count, folder, log);
  const signal = untilSignal();
  try {
    // A signal may come before all of them listen.
    const ready = await Promise.race([workers.start(), signal]);
    if (ready !== undefined) {
      const shown = { ...ready.banner, workers: `${count} processes` };
      if (process.stdout.isTTY) process.stdout.write(bannerText(VERSION, shown));
      else log.info({ version: VERSION, ...shown, ...ready.addresses }, "listening");
      onHangup(() => workers.hangUp());
      status.ready();
      await signal;
    }
    status.stopping();
  } catch (error) {
    await workers.stop();
    rmSync(folder, { recursive: true, force: true });
    // It has said why.
    if (error instanceof WorkerEnded) process.exit(error.exitCode);
    throw error;
  }
  await workers.stop();
  rmSync(folder, { recursive: true, force: true });
  log.info("stopped");
}

/** Why several processes cannot share what a configuration names; undefined: they can. */
export function unshareable({ store, interfaces, pairing }: ServerConfig): string | undefined {
  if (store === undefined)
    return "without store: each process would know devices of its own; set store: redis://HOST:PORT";
  if (store.type === "lmdb")
    return "LMDB is for one process, which checks in its memory what it writes; set store: redis://HOST:PORT";
  if (pairing !== undefined)
    return "pairing: a code is known to the process that issued it; pair devices at a server of one process on this store";
  if (interfaces.dpe1.external?.radius !== undefined)
    return "external.radius: accounting reaches one process, and the others would not know who has which address";
  return undefined;
}

/** Ports that processes share are taken by each of this user that asks for them: what is in use must be found before. */
async function probePorts({ interfaces }: ServerConfig): Promise<void> {
  const { host, coap = 0, coaps = 0, coapTcp = 0, coapsTcp = 0 } = interfaces.dpe1.listen;
  for (const port of [coap, coaps]) if (port > 0) await (await UdpSocket.bind({ host, port })).close();
  for (const port of [coapTcp, coapsTcp])
    if (port > 0) await (await listenStream((stream) => void stream.close(), { host, port })).close();
}

class Workers {
  readonly #log: Logger;
  readonly #common: Omit<WorkerPlace, "index" | "ports">;
  readonly #running = new Map<number, ChildProcess>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #first: WorkerReady | undefined;
  #isStopping = false;

  constructor(file: string, count: number, folder: string, log: Logger) {
    this.#log = log;
    this.#common = {
      file,
      count,
      folder,
      run: randomBytes(6).toString("hex"),
      secret: randomBytes(32).toString("hex"),
    };
  }

  /** The first alone, which finds the ports, then the others. @throws WorkerEnded. */
  async start(): Promise<WorkerReady> {
    const first = await this.#begin(0, FIRST_RETRY_MS);
    this.#first = first;
    if (this.#isStopping) return first;
    const others = Array.from({ length: this.#common.count - 1 }, (_, index) => this.#begin(index + 1, FIRST_RETRY_MS));
    await Promise.all(others);
    return first;
  }

  hangUp(): void {
    for (const child of this.#running.values()) child.kill("SIGHUP");
  }

  /** Each closes in order; one that does not in its time is killed. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all([...this.#running.values()].map((child) => stopped(child)));
  }

  /** Fulfilled when it listens. From then on it is started again when it ends. */
  #begin(index: number, retryMs: number): Promise<WorkerReady> {
    const { NOTIFY_SOCKET: _ours, ...env } = process.env;
    const child = fork(new URL("./worker.js", import.meta.url), [], { env });
    const startedAt = performance.now();
    this.#running.set(index, child);
    const place: WorkerPlace = { ...this.#common, index, ports: this.#first?.ports ?? {} };
    // Where it has ended already, its exit tells.
    child.send(place, () => undefined);
    return new Promise((resolve, reject) => {
      let isReady = false;
      let missed = 0;
      const watch = setInterval(() => {
        if (!isReady || ++missed < MISSED_SIGNS) return;
        this.#log.error({ worker: index, pid: child.pid }, "worker-hangs: it is ended");
        child.kill("SIGKILL");
      }, SIGN_OF_LIFE_MS);
      child.on("message", (ready: WorkerReady | typeof SIGN_OF_LIFE) => {
        missed = 0;
        if (ready === SIGN_OF_LIFE) return;
        isReady = true;
        this.#log.info({ worker: index, pid: child.pid }, "worker-listens");
        resolve(ready);
      });
      child.once("error", (error) => this.#log.error({ worker: index, error: error.message }, "worker-failed"));
      child.once("exit", (code, signal) => {
        clearInterval(watch);
        this.#running.delete(index);
        if (this.#isStopping) return;
        if (!isReady) {
          reject(new WorkerEnded(code ?? 1));
          return;
        }
        this.#log.error({ worker: index, code, signal, retryInMs: retryMs }, "worker-ended");
        this.#again(index, performance.now() - startedAt >= STEADY_MS ? FIRST_RETRY_MS : retryMs);
      });
    });
  }

  #again(index: number, retryMs: number): void {
    const next = Math.min(retryMs * 2, MAX_RETRY_MS);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#begin(index, next).catch(() => {
        if (this.#isStopping) return;
        this.#log.error({ worker: index, retryInMs: next }, "worker-ended");
        this.#again(index, next);
      });
    }, retryMs);
    this.#timers.add(timer);
  }
}

class WorkerEnded extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super("a process of the server ended before it listened");
    this.exitCode = exitCode;
  }
}

async function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(timer);
}

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** One that ran so long did not end by what it was started with. */
const STEADY_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;
/** One that gave no sign of life for so many intervals, 30 s, serves nobody any more. */
const MISSED_SIGNS = 6;
