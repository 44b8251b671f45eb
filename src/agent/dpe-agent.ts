import type { RequestMessage } from "#coap/index.js";
import { DpeError } from "#dpe/index.js";
import { type Answer, DtlsError } from "#net/index.js";
import { handshakeFailure } from "#security/index.js";
import { pause } from "#waiting/index.js";
import type { AgentConfig } from "./agent-config.js";
import type { AgentEvent } from "./agent-event.js";
import { Backoff, MAX_DENIED_WAIT_MS } from "./backoff.js";
import { Connector } from "./connector.js";
import { Renewals } from "./pairing/renewals.js";
import { Dpe2Guard } from "./dpe2-guard.js";
import { Dpe2Listener } from "./dpe2-listener.js";
import { SecurityRequiredError } from "./security-required-error.js";
import { Dpe2Resources } from "./dpe2-resources.js";
import { LiveSources } from "./live-sources.js";
import { Properties } from "./properties.js";
import { DeviceClock } from "./queue/device-clock.js";
import { hostClock } from "./queue/host-clock.js";
import { outboxJournal } from "./queue/outbox-journal.js";
import { Outbox } from "./queue/outbox.js";
import { nextBatch } from "./queue/report-batch.js";
import { refusalOf, Refusals } from "./refusal.js";
import { Rescue } from "./rescue.js";
import type { ServerAssociation } from "./server-association.js";
import type { Resolve } from "./server-round.js";
import { Sampler } from "./sources/sampler.js";
import type { Source } from "./sources/source.js";

/**
 * A DPE Client: registers with its server, reports what its sources read, answers DPE-2, and comes back by itself when the
 * association or the server is lost. Sources are read all the while; what cannot be sent waits, see {@link Outbox}.
 *
 * | state | on | to |
 * |---|---|---|
 * | connecting | registered | registered |
 * | connecting | no answer | connecting to the next address or server; after the last one waiting, twice as long each time |
 * | connecting | refused by an authentic answer | stopped: only a person can mend that, and the next server is no way around it |
 * | connecting, never registered | the third handshake in a row is refused | stopped, as above |
 * | connecting, registered before | a handshake is refused | connecting to the same server, after a pause as above: it may be forged, or a certificate that is renewed too late |
 * | registered | association ended by the server, unknown registration | connecting to the same server |
 * | registered | no sign of life | as {@link Rescue} decides: registered, as before or at whoever was found |
 * | registered, not at the first server | `returnAfter` | registered at the first, where that answers |
 * | any | close | stopped |
 */
export class DpeAgent {
  readonly properties: Properties = new Properties();
  /** Fulfilled when the agent was closed; rejected with the SecurityError or X509Error that only a person can mend. */
  readonly stopped: Promise<void>;

  readonly #config: AgentConfig;
  readonly #renewals: Renewals;
  readonly #onEvent: (event: AgentEvent) => void;
  readonly #resources: Dpe2Resources;
  readonly #live: LiveSources;
  readonly #sources: readonly Source[];
  readonly #clock: DeviceClock;
  readonly #outbox: Outbox;
  readonly #sampler: Sampler;
  readonly #closing = new AbortController();
  /** Ends what is still waited for, some time after closing began. */
  readonly #ending = new AbortController();
  readonly #guard: Dpe2Guard;
  readonly #connector: Connector;
  readonly #rescue: Rescue;
  readonly #refusals = new Refusals();
  #listener: Dpe2Listener | undefined;
  #keepsRegistration = false;
  #reportedDrops = 0;

  /** @throws AgentError AGENT_STORE_FAILED where the folder for unsent readings cannot be used. */
  constructor(
    config: AgentConfig,
    sources: readonly Source[],
    onEvent: (event: AgentEvent) => void = () => undefined,
    { resolve }: AgentOptions = {},
  ) {
    this.#config = config;
    this.#onEvent = onEvent;
    this.#renewals = new Renewals(config.interfaces.dpe1, onEvent);
    this.#resources = new Dpe2Resources(this.properties, (authError) => onEvent({ type: "server-error", authError }));
    const store = config.store === undefined ? undefined : outboxJournal(config.store);
    this.#clock = new DeviceClock(hostClock(), store?.knownTime());
    this.#outbox = new Outbox({
      limits: config.queue,
      ...(store === undefined ? {} : { store }),
      onFault: (error) => onEvent({ type: "store-failed", error }),
      onRecovered: () => onEvent({ type: "store-recovered", readings: this.#outbox.size }),
    });
    if (store !== undefined && (this.#outbox.size > 0 || store.damagedLines > 0))
      onEvent({ type: "restored", readings: this.#outbox.size, damaged: store.damagedLines });
    this.#sources = sources;
    this.#live = new LiveSources(sources, this.properties);
    this.#sampler = new Sampler(sources, {
      clock: this.#clock,
      properties: this.properties,
      outbox: this.#outbox,
      onClock: (isTrusted) => onEvent({ type: "clock", isTrusted }),
      onSourceFault: (source, error) =>
        onEvent(error === undefined ? { type: "source-recovered", source } : { type: "source-failed", source, error }),
    });
    this.#connector = new Connector(config, {
      guard: () => this.#guard,
      dpe2Uri: () => (config.interfaces.dpe2.bind === "association" ? "association" : this.#listener?.uri),
      ending: this.#ending.signal,
      resolve,
      onDpe2: (request) => this.#answer(request),
      onAudit: (event) => onEvent({ type: "audit", event }),
    });
    this.#rescue = new Rescue({
      connector: this.#connector,
      suspectAfterMs: config.failover.suspectAfter,
      onEvent,
    });
    this.#guard = new Dpe2Guard({
      policy: config.interfaces.dpe2,
      host: () => this.#connector.server.server.host,
      digest: this.#connector.dpe2Digest,
      securePort: () => this.#listener?.securePort,
      onAudit: (event) => onEvent({ type: "audit", event }),
    });
    this.stopped = this.#run();
    this.stopped.catch(() => undefined);
  }

  /** Readings that the server has not acknowledged. */
  get unsent(): number {
    return this.#outbox.size;
  }

  /**
   * Deregisters, unless the registration is to live on until its lifetime ends, and stops: within some seconds, whether or not
   * the server answers. What it has not acknowledged by then stays in the queue.
   */
  async close({ keepsRegistration = false }: { readonly keepsRegistration?: boolean } = {}): Promise<void> {
    this.#keepsRegistration = keepsRegistration;
    this.#closing.abort();
    const timer = setTimeout(() => this.#ending.abort(), CLOSE_GRACE_MS);
    await this.stopped.catch(() => undefined);
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    try {
      await this.#sampler.firstReadings();
      if (typeof this.#config.interfaces.dpe2.bind !== "string") {
        this.#listener = await Dpe2Listener.open(this.#config, {
          guard: this.#guard,
          onRequest: (request) => this.#answer(request),
          onAudit: (event) => this.#onEvent({ type: "audit", event }),
        });
      }
      await this.#stayRegistered();
    } finally {
      this.#sampler.stop();
      await Promise.all(this.#sources.map(async (source) => source.close?.()));
      await this.#listener?.close();
      await this.#outbox.close();
    }
  }

  async #stayRegistered(): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff();
    /** Opened while another one was spoken with; and that other one, until the opened one has us. */
    let opened: ServerAssociation | undefined;
    let left: ServerAssociation | undefined;
    while (!signal.aborted) {
      let association = opened;
      opened = undefined;
      try {
        association ??= await this.#connector.open(signal);
        opened = await this.#speak(association, async () => {
          backoff.reset();
          this.#refusals.registered();
          this.#rescue.answered();
          this.#connector.stay();
          await left?.close();
          left = undefined;
        });
        if (opened !== undefined) [left, association] = [association, undefined];
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof SecurityRequiredError && this.#connector.raise(error)) continue;
        const refusal = this.#refusalBy(error);
        // Whoever ended an association, or refuses one, is there, or was; whoever does not answer is not.
        const retryInMs =
          refusal === undefined
            ? backoff.next(error, isLoss(error) || this.#connector.advance()) + wishedMs(error)
            : backoff.next(error, true, MAX_DENIED_WAIT_MS);
        const next = this.#connector.server.server.href;
        this.#onEvent({ type: "lost", error: refusal ?? error, retryInMs, next });
        await pause(retryInMs, signal);
      } finally {
        await association?.close({ keepsRegistration: this.#keepsRegistration });
        if (opened === undefined) {
          await left?.close();
          left = undefined;
        }
      }
    }
    await opened?.close();
  }

  /** Uses an association until it ends; gives one that was opened meanwhile to go on with. */
  async #speak(
    association: ServerAssociation,
    onRegistered: () => Promise<void>,
  ): Promise<ServerAssociation | undefined> {
    const over = new AbortController();
    const watching = this.#rescued(association, AbortSignal.any([over.signal, this.#closing.signal]));
    try {
      const first = await this.#registerAndReport(association, onRegistered);
      over.abort();
      await (await watching).successor?.close();
      return first;
    } catch (error) {
      over.abort();
      const { successor, refusal } = await watching;
      if (refusal !== undefined) throw refusal.error;
      if (successor === undefined) throw error;
      return successor;
    }
  }

  /** What it ends with, once another association takes its place, or none ever can: nothing is asked on it any more. */
  async #rescued(association: ServerAssociation, signal: AbortSignal): Promise<Rescued> {
    try {
      const successor = await this.#rescue.watch(association, signal);
      if (successor !== undefined) await association.close({ keepsRegistration: true });
      return { successor };
    } catch (error) {
      await association.close({ keepsRegistration: true });
      return { refusal: { error } };
    }
  }

  /** The refusal that an error is, where it may pass. @throws what only a person can mend. */
  #refusalBy(error: unknown): Error | undefined {
    const refusal = refusalOf(error);
    if (refusal === undefined) return undefined;
    if (error instanceof DtlsError) {
      const peer = this.#connector.server.server.href;
      const where = { time: Date.now(), interface: "dpe1", side: "client", peer } as const;
      this.#onEvent({ type: "audit", event: handshakeFailure(error, where) });
    }
    if (this.#refusals.mayPass(error, this.#clock.isTrusted)) return refusal;
    this.#onEvent({ type: "refused", error: refusal });
    throw refusal;
  }

  /**
   * A server that forgot the registration, having been restarted, is told anew over the association that lives on. Gives an
   * association with the first server, once that is to be gone back to.
   */
  async #registerAndReport(
    association: ServerAssociation,
    onRegistered: () => Promise<void>,
  ): Promise<ServerAssociation | undefined> {
    while (!this.#closing.signal.aborted) {
      await association.register(this.properties.static());
      const { href } = this.#connector.server.server;
      this.#onEvent({ type: "registered", endpoint: this.#config.endpoint, server: href });
      await onRegistered();
      try {
        return await this.#report(association);
      } catch (error) {
        if (!(error instanceof DpeError && error.code === "DPE_UNKNOWN_REGISTRATION")) throw error;
        this.#onEvent({ type: "lost", error, retryInMs: 0, next: href });
      }
    }
    return undefined;
  }

  /** Sends what waits, and refreshes, until the association ends, or there is one with the first server. */
  async #report(association: ServerAssociation): Promise<ServerAssociation | undefined> {
    const refreshMs = this.#config.lifetime / 2;
    const { returnAfter } = this.#config.failover;
    const { keepAlive = Infinity } = this.#config.interfaces.dpe2;
    let refreshAt = performance.now() + refreshMs;
    let returnAt = this.#connector.isAtFirst ? Infinity : performance.now() + returnAfter;
    let isLost = false;
    const ended = association.closed.then(() => (isLost = true));
    while (!this.#closing.signal.aborted) {
      await this.#sendNext(association);
      if (performance.now() >= refreshAt) {
        await association.refresh();
        refreshAt = performance.now() + refreshMs;
      }
      if (association.silence.quietMs >= keepAlive) await association.keepAlive();
      if (performance.now() >= returnAt) {
        const first = await this.#openFirst();
        if (first !== undefined) return first;
        returnAt = performance.now() + returnAfter;
      }
      await this.#renewals.carryOut(association);
      if (this.#outbox.size === 0) {
        const turn = new AbortController();
        const isDone = AbortSignal.any([turn.signal, this.#closing.signal]);
        const renewalMs = this.#renewals.dueAt() - Date.now();
        const quietMs = keepAlive - association.silence.quietMs;
        const next = Math.min(refreshAt - performance.now(), returnAt - performance.now(), renewalMs, quietMs);
        const isDue = pause(next, isDone);
        await Promise.race([this.#outbox.nonEmpty(isDone), isDue, ended]);
        turn.abort();
        // Readings of one moment go in one report.
        if (!isLost) await pause(GATHER_MS, this.#closing.signal);
      }
      if (isLost) throw new DpeError("DPE_NOT_REACHABLE", "the association was lost");
    }
    return undefined;
  }

  /** Whatever is wrong with the first server, the one that we are with is as good by the policy: it is told, and no more. */
  async #openFirst(): Promise<ServerAssociation | undefined> {
    try {
      return await this.#connector.openFirst(this.#closing.signal);
    } catch (error) {
      this.#onEvent({ type: "not-returned", error });
      return undefined;
    }
  }

  async #sendNext(association: ServerAssociation): Promise<void> {
    // The clock may have been set since anything was read.
    if (this.#outbox.size > 0 && this.#clock.learn()) this.#outbox.rememberTime(this.#clock.known());
    for (let maxBytes = association.maxReportBytes; ; maxBytes = Math.floor(maxBytes / 2)) {
      const batch = nextBatch(this.#outbox, this.#clock, maxBytes);
      if (batch === undefined) return;
      const sentAt = performance.now();
      const isTaken = await association.report(batch.payload);
      const tookMs = performance.now() - sentAt;
      if (!isTaken && batch.ids.length > 1) continue;
      // One reading that the server can never take would hold up all after it.
      if (!isTaken) this.#onEvent({ type: "discarded", name: batch.names[0] ?? "" });
      this.#outbox.remove(batch.ids);
      if (isTaken) this.#onEvent({ type: "reported", properties: batch.ids.length, unsent: this.#outbox.size, tookMs });
      break;
    }
    const { dropped } = this.#outbox;
    if (dropped > this.#reportedDrops) this.#onEvent({ type: "dropped", readings: dropped - this.#reportedDrops });
    this.#reportedDrops = dropped;
  }

  #answer(request: RequestMessage): Answer {
    this.#onEvent({ type: "queried", path: request.options.uriPath.join("/") });
    return this.#live.answer(request, () => this.#resources.handle(request));
  }
}

interface Rescued {
  readonly successor?: ServerAssociation | undefined;
  readonly refusal?: { readonly error: unknown };
}

/** For tests, and systems with a resolver of their own. */
export interface AgentOptions {
  /** All addresses of a name. Default: the system's. */
  readonly resolve?: Resolve | undefined;
}

/** How long the server asked to be left alone, within an hour. */
function wishedMs(error: unknown): number {
  return error instanceof DpeError ? Math.min(error.retryAfterMs ?? 0, MAX_WISHED_MS) : 0;
}

/** The association ended, by whomever; its server may be there. */
function isLoss(error: unknown): boolean {
  return error instanceof DpeError && error.code === "DPE_NOT_REACHABLE";
}

const MAX_WISHED_MS = 3_600_000;
const GATHER_MS = 50;
/** For an answer that is on its way, when the agent is closed. */
const CLOSE_GRACE_MS = 2000;
