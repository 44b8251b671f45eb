import { randomBytes, randomInt } from "node:crypto";
import type { RequestMessage } from "#coap/index.js";
import { DigestClient } from "#digest/index.js";
import { DPE2_OVER_ASSOCIATION, DpeError } from "#dpe/index.js";
import { type Answer, DtlsError } from "#net/index.js";
import { gbaRealm, handshakeFailure } from "#security/index.js";
import type { AgentConfig } from "./agent-config.js";
import { AgentError, describeFault } from "./agent-error.js";
import { type AgentCredentials, ksNafBytes } from "./credentials-config.js";
import type { AgentEvent } from "./agent-event.js";
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
import { refusalOf } from "./refusal.js";
import { type AssociationParts, ServerAssociation } from "./server-association.js";
import { Sampler } from "./sources/sampler.js";
import type { Source } from "./sources/source.js";

/**
 * A DPE Client: registers with its server, reports what its sources read, answers DPE-2, and comes back by itself when the
 * association or the server is lost. Sources are read all the while; what cannot be sent waits, see {@link Outbox}.
 *
 * | state | on | to |
 * |---|---|---|
 * | connecting | registered | registered |
 * | connecting | unreachable | waiting, twice as long each time, then the next server |
 * | connecting | authentication error | stopped: only a person can mend that |
 * | registered | association lost, unknown registration | connecting |
 * | any | close | stopped |
 */
export class DpeAgent {
  readonly properties: Properties = new Properties();
  /** Fulfilled when the agent was closed; rejected with the SecurityError or X509Error that only a person can mend. */
  readonly stopped: Promise<void>;

  readonly #config: AgentConfig;
  readonly #onEvent: (event: AgentEvent) => void;
  readonly #resources: Dpe2Resources;
  readonly #live: LiveSources;
  readonly #sources: readonly Source[];
  readonly #clock: DeviceClock;
  readonly #outbox: Outbox;
  readonly #sampler: Sampler;
  readonly #closing = new AbortController();
  readonly #guard: Dpe2Guard;
  #listener: Dpe2Listener | undefined;
  /** The server asked for DTLS: nothing less will do for as long as the agent runs. */
  #isRaised = false;
  #securePort: number | undefined;
  #keepsRegistration = false;
  #reportedDrops = 0;

  /** @throws AgentError AGENT_STORE_FAILED where the folder for unsent readings cannot be used. */
  constructor(config: AgentConfig, sources: readonly Source[], onEvent: (event: AgentEvent) => void = () => undefined) {
    this.#config = config;
    this.#onEvent = onEvent;
    this.#resources = new Dpe2Resources(this.properties, (authError) => onEvent({ type: "server-error", authError }));
    const store = config.store === undefined ? undefined : outboxJournal(config.store);
    this.#clock = new DeviceClock(hostClock(), store?.knownTime());
    this.#outbox = new Outbox({
      limits: config.queue,
      ...(store === undefined ? {} : { store }),
      onFault: (error) => onEvent({ type: "store-failed", error }),
    });
    if (store !== undefined && (this.#outbox.size > 0 || store.damagedLines > 0))
      onEvent({ type: "restored", readings: this.#outbox.size, damaged: store.damagedLines });
    this.#sources = sources;
    this.#live = new LiveSources(sources, this.properties);
    this.#sampler = new Sampler(sources, {
      clock: this.#clock,
      properties: this.properties,
      outbox: this.#outbox,
      onSourceFault: (source, error) =>
        onEvent(error === undefined ? { type: "source-recovered", source } : { type: "source-failed", source, error }),
    });
    this.#guard = new Dpe2Guard({
      policy: config.interfaces.dpe2,
      host: config.server.host,
      digest: digestClientOf(config)?.(),
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

  /** Deregisters, unless the registration is to live on until its lifetime ends, and stops. */
  async close({ keepsRegistration = false }: { readonly keepsRegistration?: boolean } = {}): Promise<void> {
    this.#keepsRegistration = keepsRegistration;
    this.#closing.abort();
    await this.stopped.catch(() => undefined);
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
    let waitMs = MIN_WAIT_MS;
    while (!this.#closing.signal.aborted) {
      let association: ServerAssociation | undefined;
      try {
        const { signal } = this.#closing;
        association = await ServerAssociation.open(this.#config, this.#parts(), signal);
        await this.#registerAndReport(association, () => (waitMs = MIN_WAIT_MS));
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        if (error instanceof SecurityRequiredError && this.#raise(error)) continue;
        // The port may be another by then; what is never forgotten is that DTLS was asked for.
        this.#securePort = undefined;
        const refusal = refusalOf(error);
        if (refusal !== undefined) {
          if (error instanceof DtlsError) {
            const peer = this.#config.server.href;
            const where = { time: Date.now(), interface: "dpe1", side: "client", peer } as const;
            this.#onEvent({ type: "audit", event: handshakeFailure(error, where) });
          }
          this.#onEvent({ type: "refused", error: refusal });
          throw refusal;
        }
        // Half of the wait is random, so that a fleet does not come back as one.
        const retryInMs = Math.round(waitMs / 2) + randomInt(Math.ceil(waitMs / 2));
        this.#onEvent({ type: "lost", error: withServer(error, this.#config.server.href), retryInMs });
        waitMs = Math.min(waitMs * 2, MAX_WAIT_MS);
        await pause(retryInMs, this.#closing.signal);
      } finally {
        await association?.close({ keepsRegistration: this.#keepsRegistration });
      }
    }
  }

  #parts(): AssociationParts {
    const { bind } = this.#config.interfaces.dpe2;
    return {
      dpe2Guard: this.#guard,
      digest: digestClientOf(this.#config),
      dpe2Uri: bind === "association" ? DPE2_OVER_ASSOCIATION : this.#listener?.uri,
      isRaised: this.#isRaised,
      port: this.#securePort,
      onDpe2: (request) => this.#answer(request),
      onAudit: (event) => this.#onEvent({ type: "audit", event }),
    };
  }

  /** Goes on over DTLS, as the server asks; false where that is what was done. */
  #raise({ required }: SecurityRequiredError): boolean {
    if (this.#isRaised || this.#config.server.scheme !== "coap") return false;
    this.#isRaised = true;
    this.#securePort = required.port;
    return true;
  }

  /** A server that forgot the registration, having been restarted, is told anew over the association that lives on. */
  async #registerAndReport(association: ServerAssociation, onRegistered: () => void): Promise<void> {
    while (!this.#closing.signal.aborted) {
      await association.register(this.properties.static());
      this.#onEvent({ type: "registered", endpoint: this.#config.endpoint });
      onRegistered();
      try {
        await this.#report(association);
      } catch (error) {
        if (!(error instanceof DpeError && error.code === "DPE_UNKNOWN_REGISTRATION")) throw error;
        this.#onEvent({ type: "lost", error, retryInMs: 0 });
      }
    }
  }

  /** Sends what waits, and refreshes, until the association ends. */
  async #report(association: ServerAssociation): Promise<void> {
    const refreshMs = this.#config.lifetime / 2;
    let refreshAt = performance.now() + refreshMs;
    let isLost = false;
    const ended = association.closed.then(() => (isLost = true));
    while (!this.#closing.signal.aborted) {
      await this.#sendNext(association);
      if (performance.now() >= refreshAt) {
        await association.refresh();
        refreshAt = performance.now() + refreshMs;
      }
      if (this.#outbox.size === 0) {
        const turn = new AbortController();
        const isDone = AbortSignal.any([turn.signal, this.#closing.signal]);
        const isDue = pause(refreshAt - performance.now(), isDone);
        await Promise.race([this.#outbox.nonEmpty(isDone), isDue, ended]);
        turn.abort();
        // Readings of one moment go in one report.
        if (!isLost) await pause(GATHER_MS, this.#closing.signal);
      }
      if (isLost) throw new DpeError("DPE_NOT_REACHABLE", "the association was lost");
    }
  }

  async #sendNext(association: ServerAssociation): Promise<void> {
    for (let maxBytes = MAX_REPORT_BYTES; ; maxBytes = Math.floor(maxBytes / 2)) {
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

function digestClientOf({ interfaces, server }: AgentConfig): (() => DigestClient) | undefined {
  const { credentials, digest } = interfaces.dpe1;
  const secret = digestSecretOf(credentials, server.host);
  if (secret === undefined) return undefined;
  const { dangerAllowMd5, dangerAllowNoQop } = digest;
  return () =>
    new DigestClient({
      secret,
      random: randomBytes,
      dangerAllowMd5,
      dangerAllowNoQop,
    });
}

function digestSecretOf(
  { username, password, gba }: AgentCredentials,
  host: string,
): { readonly username: string; readonly password: string; readonly realm?: string } | undefined {
  if (username !== undefined && password !== undefined) return { username, password: password.text() };
  const ksNaf = gba === undefined ? undefined : ksNafBytes(gba.ksNaf);
  if (gba === undefined || ksNaf === undefined) return undefined;
  // TS 33.222 §5.3: the credential is for this NAF alone, and so is answered in its realm alone.
  return {
    username: gba.btid,
    password: Buffer.from(ksNaf).toString("base64"),
    realm: gbaRealm(gba.naf ?? host),
  };
}

/** A time-out alone does not say of what. */
function withServer(error: unknown, href: string): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code !== "DTLS_HANDSHAKE_TIMEOUT" && code !== "COAP_TIMEOUT" && code !== "NET_NAME_NOT_FOUND") return error;
  const why = `${href} does not answer: ${describeFault(error)}; is it running, and reachable by UDP?`;
  return new AgentError("AGENT_SERVER_UNREACHABLE", why, { cause: error });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(Math.max(0, ms), MAX_TIMER_MS));
    signal.addEventListener("abort", done, { once: true });
  });
}

const MIN_WAIT_MS = 1000;
const MAX_WAIT_MS = 60_000;
const GATHER_MS = 50;
const MAX_TIMER_MS = 2 ** 31 - 1;
/** With the headers of CoAP, Digest, DTLS, UDP and IPv6 it stays below 1280 bytes, the least MTU of IPv6. */
const MAX_REPORT_BYTES = 900;
