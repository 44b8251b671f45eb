import { randomInt } from "node:crypto";
import type { RequestMessage } from "#coap/index.js";
import { DpeError } from "#dpe/index.js";
import { DtlsError, type ObservableResponse } from "#net/index.js";
import { SecurityError } from "#security/index.js";
import type { SenmlRecord } from "#senml/index.js";
import { X509Error } from "#x509/index.js";
import type { AgentConfig } from "./agent-config.js";
import { Dpe2Resources } from "./dpe2-resources.js";
import { Properties, type Reading } from "./properties.js";
import { ServerAssociation } from "./server-association.js";

/**
 * A DPE Client: registers with its server, reports what its sources read, answers DPE-2, and comes back by itself when the
 * association or the server is lost.
 *
 * | state | on | to |
 * |---|---|---|
 * | connecting | registered | registered |
 * | connecting | unreachable | waiting, twice as long each time |
 * | connecting | authentication error | stopped: only a person can mend that |
 * | registered | association lost, unknown registration | connecting |
 * | any | close | stopped |
 */
export class DpeAgent {
  readonly properties: Properties = new Properties();
  /** Fulfilled when the agent was closed; rejected with the SecurityError or X509Error that only a person can mend. */
  readonly stopped: Promise<void>;

  readonly #config: AgentConfig;
  readonly #sources: readonly Source[];
  readonly #onEvent: (event: AgentEvent) => void;
  readonly #resources: Dpe2Resources;
  readonly #closing = new AbortController();

  constructor(config: AgentConfig, sources: readonly Source[], onEvent: (event: AgentEvent) => void = () => undefined) {
    this.#config = config;
    this.#sources = sources;
    this.#onEvent = onEvent;
    this.#resources = new Dpe2Resources(this.properties, (authError) => onEvent({ type: "server-error", authError }));
    this.stopped = this.#run();
    this.stopped.catch(() => undefined);
  }

  /** Deregisters and stops. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.stopped.catch(() => undefined);
  }

  async #run(): Promise<void> {
    let waitMs = MIN_WAIT_MS;
    while (!this.#closing.signal.aborted) {
      let association: ServerAssociation | undefined;
      try {
        association = await ServerAssociation.open(this.#config, (request) => this.#answer(request));
        await this.#read(() => true);
        await association.register(this.properties.select());
        this.#onEvent({ type: "registered", endpoint: this.#config.endpoint });
        waitMs = MIN_WAIT_MS;
        await this.#report(association);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        const refusal = refusalOf(error);
        if (refusal !== undefined) {
          this.#onEvent({ type: "refused", error: refusal });
          throw refusal;
        }
        this.#onEvent({ type: "lost", error });
        if (!(error instanceof DpeError && error.code === "DPE_UNKNOWN_REGISTRATION")) {
          // Half of the wait is random, so that a fleet does not come back as one.
          await pause(waitMs / 2 + randomInt(Math.ceil(waitMs / 2)), this.#closing.signal);
          waitMs = Math.min(waitMs * 2, MAX_WAIT_MS);
        }
      } finally {
        await association?.close();
      }
    }
  }

  /** Reads and reports until the association ends. */
  async #report(association: ServerAssociation): Promise<void> {
    const due = new Map(this.#sources.map((source) => [source, 0]));
    let refreshAt = performance.now() + this.#config.lifetime / 2;
    let isLost = false;
    void association.closed.then(() => (isLost = true));
    while (!this.#closing.signal.aborted) {
      const now = performance.now();
      const ready = this.#sources.filter((source) => (due.get(source) ?? 0) <= now);
      for (const source of ready) due.set(source, now + source.everyMs);
      if (ready.length > 0) {
        const records = await this.#read((source) => ready.includes(source));
        await association.report(records);
        this.#onEvent({ type: "reported", properties: records.length });
      }
      if (now >= refreshAt) {
        await association.refresh();
        refreshAt = now + this.#config.lifetime / 2;
      }
      const next = Math.min(refreshAt, ...due.values());
      await Promise.race([pause(Math.max(0, next - performance.now()), this.#closing.signal), association.closed]);
      if (isLost) throw new DpeError("DPE_NOT_REACHABLE", "the association was lost");
    }
  }

  async #read(isWanted: (source: Source) => boolean): Promise<readonly SenmlRecord[]> {
    const readings = await Promise.all(
      this.#sources.filter((source) => isWanted(source)).map((source) => source.read()),
    );
    return this.properties.update(readings.flat(), Date.now() / 1000);
  }

  #answer(request: RequestMessage): ObservableResponse {
    this.#onEvent({ type: "queried", path: request.options.uriPath.join("/") });
    return this.#resources.handle(request);
  }
}

/** Where properties come from. */
export interface Source {
  readonly everyMs: number;
  read(): Promise<readonly Reading[]>;
}

/** What an agent tells of its work; none of it holds a secret. */
export type AgentEvent =
  | { readonly type: "registered"; readonly endpoint: string }
  | { readonly type: "reported"; readonly properties: number }
  | { readonly type: "queried"; readonly path: string }
  | { readonly type: "lost"; readonly error: unknown }
  | { readonly type: "refused"; readonly error: Error }
  | { readonly type: "server-error"; readonly authError: number | undefined };

/** An error that only a person can mend: the server refuses us, we refuse the server, or our own files do not serve. */
function refusalOf(error: unknown): Error | undefined {
  if (error instanceof SecurityError || error instanceof X509Error) return error;
  if (!(error instanceof DtlsError)) return undefined;
  const { receivedAlert } = error;
  const isRefusal =
    error.code === "DTLS_CERTIFICATE_REFUSED" ||
    (receivedAlert !== undefined && AUTHENTICATION_ALERTS.has(receivedAlert));
  if (!isRefusal) return undefined;
  const message = receivedAlert === undefined ? error.message : `the server refused the handshake: ${receivedAlert}`;
  return new SecurityError(
    receivedAlert === undefined ? "SECURITY_SERVER_NOT_ACCEPTED" : "SECURITY_AUTHENTICATION_REFUSED",
    message,
    { cause: error },
  );
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}

/** RFC 5246 §7.2.2, RFC 4279 §2: the other side does not accept our credential. */
const AUTHENTICATION_ALERTS: ReadonlySet<string> = new Set([
  "access_denied",
  "bad_certificate",
  "certificate_expired",
  "certificate_unknown",
  "decrypt_error",
  "unknown_ca",
  "unknown_psk_identity",
  "unsupported_certificate",
]);
const MIN_WAIT_MS = 1000;
const MAX_WAIT_MS = 60_000;
