import type { RequestMessage } from "#coap/index.js";
import type { DigestClient } from "#digest/index.js";
import { DPE2_OVER_ASSOCIATION } from "#dpe/index.js";
import { codeOf, messageOf } from "#errors/index.js";
import type { Answer } from "#net/index.js";
import type { AuditEvent } from "#security/index.js";
import type { AgentConfig } from "./agent-config.js";
import { AgentError } from "./agent-error.js";
import { digestClientOf } from "./digest-credential.js";
import type { Dpe2Guard } from "./dpe2-guard.js";
import type { SecurityRequiredError } from "./security-required-error.js";
import { ServerAssociation } from "./server-association.js";
import { type ServerConfig, serversOf } from "./server-list.js";
import { type Resolve, ServerRound } from "./server-round.js";
import { SessionFile } from "./session-file.js";

/**
 * Opens associations with the servers of a configuration, in their order, and keeps what helps with the next one: the DTLS
 * session, and that a server asked for DTLS. Each server is held to the same policy, so that whoever keeps us from the first
 * gains nothing; and a server that refuses us, or is not accepted, is never stepped over: that ends the agent.
 */
export class Connector {
  #round: ServerRound;
  readonly #sessions: SessionFile;
  readonly #parts: ConnectorParts;
  /** A server asked for DTLS: nothing less will do for as long as the agent runs. */
  #isRaised = false;
  #securePort: number | undefined;
  #dpe2Digest: { readonly server: ServerConfig; readonly client: DigestClient | undefined } | undefined;

  constructor(config: AgentConfig, parts: ConnectorParts) {
    this.#round = new ServerRound(serversOf(config), parts.resolve);
    this.#sessions = new SessionFile(config.store);
    this.#parts = parts;
  }

  /** The one that is spoken with, or tried next. */
  get server(): ServerConfig {
    return this.#round.server;
  }

  get isAtFirst(): boolean {
    return this.#round.isAtFirst;
  }

  /** What answers the challenges of that server on DPE-2. */
  readonly dpe2Digest = (): DigestClient | undefined => {
    const { server } = this;
    if (this.#dpe2Digest?.server !== server) this.#dpe2Digest = { server, client: digestClientOf(server)?.() };
    return this.#dpe2Digest.client;
  };

  /** @throws as {@link ServerAssociation.open}; AgentError AGENT_SERVER_UNREACHABLE in place of what names no server. */
  async open(signal: AbortSignal): Promise<ServerAssociation> {
    const round = this.#round;
    return this.#openAt(round, round.hasChoice ? undefined : HANDSHAKE_TIMEOUT_MS, signal);
  }

  /** An association with the first server, while another one is spoken with. @throws as {@link open}. */
  async openFirst(signal: AbortSignal): Promise<ServerAssociation> {
    const round = new ServerRound([this.#round.first], this.#parts.resolve);
    const association = await this.#openAt(round, undefined, signal);
    this.#round.returnToFirst();
    return association;
  }

  /** Looks for a server while an association is held with the one that is spoken with: from that one on. */
  search(): ServerSearch {
    const round = this.#round.copy();
    return {
      server: () => round.server,
      open: (signal) => this.#openAt(round, undefined, signal),
      advance: () => round.advance(),
      take: () => {
        round.stay();
        this.#round = round;
      },
    };
  }

  /** Whoever was tried does not answer. True when everybody was tried. */
  advance(): boolean {
    // The port may be another by then; what is never forgotten is that DTLS was asked for.
    this.#securePort = undefined;
    return this.#round.advance();
  }

  /** The server answered: it is the one to come back to. */
  stay(): void {
    this.#round.stay();
  }

  /** Goes on over DTLS, as the server asks; false where that is what was done. */
  raise({ required }: SecurityRequiredError): boolean {
    if (this.#isRaised || this.server.server.scheme !== "coap") return false;
    this.#isRaised = true;
    this.#securePort = required.port;
    return true;
  }

  async #openAt(
    round: ServerRound,
    handshakeTimeoutMs: number | undefined,
    signal: AbortSignal,
  ): Promise<ServerAssociation> {
    const { server } = round;
    const dial = async (): Promise<ServerAssociation> =>
      this.#dial(server, await round.address(), handshakeTimeoutMs ?? server.failover.giveUpAfter, signal);
    try {
      return await orAborted(dial(), signal);
    } catch (error) {
      throw withServer(error, server.server.href);
    }
  }

  async #dial(
    config: ServerConfig,
    address: string,
    handshakeTimeoutMs: number,
    signal: AbortSignal,
  ): Promise<ServerAssociation> {
    const session = this.#sessions.of(config);
    const { guard, ending, dpe2Uri, onDpe2, onAudit } = this.#parts;
    const uri = dpe2Uri();
    try {
      const association = await ServerAssociation.open(
        config,
        {
          dpe2Guard: guard(),
          digest: digestClientOf(config),
          dpe2Uri: uri === "association" ? DPE2_OVER_ASSOCIATION : uri,
          isRaised: this.#isRaised,
          port: this.#securePort,
          ending,
          onDpe2,
          onAudit,
        },
        { address, handshakeTimeoutMs, session, signal },
      );
      const { resumption } = association;
      if (resumption !== undefined) this.#sessions.keep(config, resumption);
      return association;
    } catch (error) {
      if (session !== undefined && !isUnanswered(error) && !signal.aborted) this.#sessions.forget(config);
      throw error;
    }
  }
}

/** Of servers, without leaving the one that is spoken with. */
export interface ServerSearch {
  /** The one that is tried next. */
  server(): ServerConfig;
  /** @throws as {@link Connector.open}. */
  open(signal: AbortSignal): Promise<ServerAssociation>;
  /** Whoever was tried does not answer. True when everybody was tried. */
  advance(): boolean;
  /** The one that was found is the one that is spoken with. */
  take(): void;
}

/** What a connector is given by its agent. */
export interface ConnectorParts {
  readonly guard: () => Dpe2Guard;
  /** What a registration says of DPE-2. */
  readonly dpe2Uri: () => "association" | (string & {}) | undefined;
  /** Ends requests that are not answered yet. */
  readonly ending: AbortSignal;
  readonly resolve?: Resolve | undefined;
  readonly onDpe2: (request: RequestMessage) => Answer;
  readonly onAudit: (event: AuditEvent) => void;
}

/** A time-out alone does not say of what. */
function withServer(error: unknown, href: string): unknown {
  if (!isUnanswered(error) && codeOf(error) !== "NET_NAME_NOT_FOUND") return error;
  const why =
    codeOf(error) === "NET_NAME_NOT_FOUND"
      ? `${href}: ${messageOf(error)}; is the name right, and does this machine reach a name server?`
      : `${href} does not answer: ${messageOf(error)}; is it running, and reachable by UDP?`;
  return new AgentError("AGENT_SERVER_UNREACHABLE", why, { cause: error });
}

function isUnanswered(error: unknown): boolean {
  const code = codeOf(error);
  return code === "DTLS_HANDSHAKE_TIMEOUT" || code === "NET_CONNECTION_REFUSED";
}

/** Looking up a name takes no signal. */
function orAborted(opening: Promise<ServerAssociation>, signal: AbortSignal): Promise<ServerAssociation> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      opening.then((late) => late.close()).catch(() => undefined);
      reject(new AgentError("AGENT_SERVER_UNREACHABLE", "the agent was closed"));
    };
    signal.addEventListener("abort", giveUp, { once: true });
    opening.then(resolve, reject).finally(() => signal.removeEventListener("abort", giveUp));
  });
}

const HANDSHAKE_TIMEOUT_MS = 60_000;
