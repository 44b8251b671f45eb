import {
  CoapError,
  CODE,
  formatCode,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import type { DigestClient } from "#digest/index.js";
import {
  AUTH_ERROR,
  BINDING_OPTION,
  BINDING_OPTION_FORMATS,
  CONTENT_FORMAT,
  DpeError,
  PATH,
  QUERY,
} from "#dpe/index.js";
import { type CoapConnection, CoapEndpoint, DtlsSession, formatAddress, type Answer } from "#net/index.js";
import {
  type AuditEvent,
  authErrorOf,
  ClientAuthenticator,
  decide,
  offerAsText,
  SecurityError,
  securityRequiredOf,
  type ServerAuthentication,
} from "#security/index.js";
import { encodePack, type SenmlRecord } from "#senml/index.js";
import { pause } from "#waiting/index.js";
import type { Dpe2Guard } from "./dpe2-guard.js";
import { type Dial, openConnection } from "./open-connection.js";
import { SecurityRequiredError } from "./security-required-error.js";
import { clientPolicy, offerOf } from "./server-authentication.js";
import type { ServerConfig } from "./server-list.js";
import { Silence } from "./silence.js";

/**
 * DPE-1 on one association with the server: registration, refresh, reports, deregistration. The same association carries
 * DPE-2 back to us. What is asked on it waits until it is answered, or the association ends: see `rescue.ts` for a server that
 * falls silent. When it has ended it is of no more use: open a new one.
 */
export class ServerAssociation {
  /** Fulfilled when the association is lost or closed. */
  readonly closed: Promise<void>;
  /** Of the server, toward what is asked on it. */
  readonly silence: Silence = new Silence();

  readonly #config: ServerConfig;
  readonly #connection: CoapConnection;
  readonly #endpoint: CoapEndpoint;
  readonly #parts: AssociationParts;
  /** What of the server satisfied the policy. */
  #acceptedBy: ServerAuthentication | undefined;
  #location: readonly string[] | undefined;

  private constructor(
    config: ServerConfig,
    connection: CoapConnection,
    endpoint: CoapEndpoint,
    closed: Promise<void>,
    parts: AssociationParts,
  ) {
    this.#parts = parts;
    this.#config = config;
    this.#connection = connection;
    this.#endpoint = endpoint;
    this.closed = closed;
    connection.onHeard = () => this.silence.heard();
  }

  /**
   * Opens an association as the policy asks; `signal` ends a handshake that is no longer wanted. A server that is not
   * accepted is told so (R12): by the alert of the handshake, else at its `err` resource.
   *
   * @throws NetError, DtlsError, CoapError; SecurityError SECURITY_SERVER_NOT_ACCEPTED.
   */
  static async open(
    config: ServerConfig,
    parts: AssociationParts,
    dial: Omit<Dial, "isRaised" | "port">,
  ): Promise<ServerAssociation> {
    const { dpe1, dpe2 } = config.interfaces;
    const { digest, dpe2Guard } = parts;
    const authenticator =
      digest === undefined
        ? undefined
        : new ClientAuthenticator(digest(), { requiresServerProof: dpe1.digest.requireServerProof });
    let lost: () => void = () => undefined;
    const closed = new Promise<void>((resolve) => (lost = resolve));
    const endpoint = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      parameters: { roundTripEstimation: config.timeOuts },
      onMessage: dpe2Guard.onMessage,
      onRequest: (request) => (dpe2.bind === "association" ? parts.onDpe2(request) : NOT_FOUND),
      ...(authenticator === undefined
        ? {}
        : {
            // Whom we do not accept gets no credential, whatever it asks for.
            onSend: (message, _connection, send) =>
              isError(message) ? send(message) : authenticator.send(message, send),
          }),
      onDisconnect: () => lost(),
    });
    try {
      const isRaised = parts.isRaised === true;
      const connection = await openConnection(config, endpoint, { ...dial, isRaised, port: parts.port });
      const association = new ServerAssociation(config, connection, endpoint, closed, parts);
      await association.#judgeServer();
      return association;
    } catch (error) {
      await endpoint.close();
      throw error;
    }
  }

  /** What resumes the DTLS session in a later one with this server; undefined on other transports, and where it was resumed itself. */
  get resumption(): Uint8Array | undefined {
    const { transport } = this.#connection;
    return transport instanceof DtlsSession ? transport.resumption : undefined;
  }

  /** Whether a handshake has shown that the server is there. */
  get isProven(): boolean {
    return this.#connection.transport !== undefined;
  }

  /**
   * Asks the server for a sign of life, at once and some times more, by what it has not acknowledged, or else by a ping (RFC
   * 7252 §4.3); gives whether any came within that time.
   */
  async answers(withinMs: number, signal: AbortSignal): Promise<boolean> {
    const over = new AbortController();
    const isOver = AbortSignal.any([signal, over.signal]);
    try {
      if (this.#connection.retransmit() === 0) this.#connection.ping({ signal: isOver }).catch(() => undefined);
      void this.#askAgain(isOver);
      return await this.silence.ends(withinMs, isOver);
    } finally {
      over.abort();
    }
  }

  /** What was lost may be lost again. */
  async #askAgain(isOver: AbortSignal): Promise<void> {
    for (let waitMs = ASK_AGAIN_MS; ; waitMs *= 2) {
      await pause(waitMs, isOver);
      if (isOver.aborted) return;
      this.#connection.retransmit();
    }
  }

  /** What the server has shown in the handshake, DER; undefined also where a session was resumed. */
  get serverCertificates(): readonly Uint8Array[] | undefined {
    return this.#connection.peerInfo?.certificates;
  }

  /** The anchors to which the server's certificate led; undefined where it was accepted by anything else. */
  get anchorsFile(): string | undefined {
    return this.#acceptedBy === "certificate" ? this.#config.interfaces.dpe1.ca : undefined;
  }

  /** The longest report that travels in one datagram. */
  get maxReportBytes(): number {
    const { transport } = this.#connection;
    const room = transport instanceof DtlsSession ? transport.maxDataBytes : this.#config.mtu - IP_UDP_HEADER_BYTES;
    return Math.max(
      LEAST_REPORT_BYTES,
      Math.min(room - HEADER_ROOM_BYTES - (this.#parts.digest === undefined ? 0 : DIGEST_ROOM_BYTES), MAX_BLOCK_BYTES),
    );
  }

  /** @throws SecurityError SECURITY_AUTHENTICATION_REFUSED with the authentication error; DpeError DPE_BAD_REQUEST; CoapError. */
  async register(records: readonly SenmlRecord[]): Promise<void> {
    const query = [
      `${QUERY.endpoint}=${this.#config.endpoint}`,
      `${QUERY.lifetimeSeconds}=${Math.round(this.#config.lifetime / 1000)}`,
      ...(this.#parts.dpe2Uri === undefined ? [] : [`${QUERY.dpe2}=${this.#parts.dpe2Uri}`]),
    ];
    const pack = records.length > 0 ? encodePack(records, "cbor") : NO_PAYLOAD;
    const response = await this.#post([PATH.dpe1, PATH.registrations], query, pack);
    if (response.code !== CODE.Created) throw unexpected("registration", response);
    this.#location = response.options.locationPath;
  }

  /**
   * Sends a SenML-CBOR pack. Returns false where the server can never take what is in it.
   *
   * @throws as {@link register}; DpeError DPE_UNKNOWN_REGISTRATION: register anew.
   */
  async report(pack: Uint8Array): Promise<boolean> {
    const response = await this.#change("report", [PATH.properties], pack);
    return response.code === CODE.Changed;
  }

  /** @throws as {@link report}. */
  async refresh(): Promise<void> {
    const response = await this.#change("refresh", [], NO_PAYLOAD);
    if (response.code !== CODE.Changed) throw unexpected("refresh", response);
  }

  /** Asks for nothing but a sign of life (RFC 7252 §4.3), so that a NAT on the path goes on leading to us. */
  async keepAlive(): Promise<void> {
    await this.#answered(() => this.#connection.ping({ signal: this.#parts.ending }));
  }

  /** Asks for another certificate, or for the anchors alone; whatever the server answers is given back. */
  renew(payload: Uint8Array): Promise<ResponseMessage> {
    return this.#post([PATH.dpe1, PATH.renewal], [], payload, CONTENT_FORMAT.cbor);
  }

  /** Ends the registration, if there is one and it is not to be kept, then the association. */
  async close({ keepsRegistration = false }: { readonly keepsRegistration?: boolean } = {}): Promise<void> {
    const location = this.#location;
    this.#location = undefined;
    if (location !== undefined && !keepsRegistration && !this.#connection.isClosed) {
      const options = Options.none.withAll(OPTION.UriPath, location);
      const signal = AbortSignal.timeout(DEREGISTER_TIMEOUT_MS);
      // The registration ends by its lifetime where the server does not answer.
      await this.#connection
        .request({ code: CODE.DELETE, options, payload: NO_PAYLOAD }, { signal })
        .catch(() => undefined);
    }
    await this.#connection.close();
    await this.#endpoint.close();
  }

  async #change(what: string, path: readonly string[], payload: Uint8Array): Promise<ResponseMessage> {
    if (this.#location === undefined) throw new DpeError("DPE_UNKNOWN_REGISTRATION", "not registered");
    const response = await this.#post([...this.#location, ...path], [], payload);
    if (response.code === CODE.NotFound)
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", "the server does not know the registration any more");
    if (response.code !== CODE.Changed && !UNACCEPTABLE.has(response.code)) throw unexpected(what, response);
    return response;
  }

  /** The server as the policy of DPE-1 sees it, before anything of ours is sent. */
  async #judgeServer(): Promise<void> {
    const { server, interfaces } = this.#config;
    const policy = clientPolicy(interfaces.dpe1);
    const offer = offerOf(this.#connection, server.host, interfaces.dpe1);
    const decision = decide({ interface: "dpe1", side: "client", policy, offer });
    this.#parts.onAudit({
      time: Date.now(),
      outcome: decision.type === "accept" ? "success" : "failure",
      interface: "dpe1",
      side: "client",
      mode: decision.type === "accept" ? decision.mode : undefined,
      subscriber: undefined,
      peer: formatAddress(this.#connection.remoteAddress),
      connection: offer.connection,
      rule: decision.rule,
      cause: decision.type === "accept" ? "accepted" : decision.error,
      offer: offerAsText(offer),
    });
    if (decision.type === "accept") {
      this.#acceptedBy = decision.mode;
      return;
    }
    await this.#tellNotAccepted();
    await this.#connection.close();
    throw new SecurityError("SECURITY_SERVER_NOT_ACCEPTED", `the server is not accepted: ${decision.rule}`);
  }

  async #tellNotAccepted(): Promise<void> {
    const options = Options.none
      .withAll(OPTION.UriPath, [PATH.dpe1, PATH.errors])
      .with(BINDING_OPTION.AuthError, AUTH_ERROR["server-not-accepted"]);
    const signal = AbortSignal.timeout(DEREGISTER_TIMEOUT_MS);
    // It matters to the server's operator; to us nothing depends on it.
    await this.#connection
      .request({ code: CODE.POST, options, payload: NO_PAYLOAD }, { signal })
      .catch(() => undefined);
  }

  async #post(
    path: readonly string[],
    query: readonly string[],
    payload: Uint8Array,
    format: number = CONTENT_FORMAT.senmlCbor,
  ): Promise<ResponseMessage> {
    let options = Options.none.withAll(OPTION.UriPath, path).withAll(OPTION.UriQuery, query);
    if (payload.length > 0) options = options.with(OPTION.ContentFormat, format);
    const request = { code: CODE.POST, options, payload };
    try {
      return await this.#answered(() => this.#connection.request(request, { signal: this.#parts.ending }));
    } catch (error) {
      if (error instanceof SecurityError && error.code === "SECURITY_SERVER_NOT_ACCEPTED")
        await this.#tellNotAccepted();
      throw error;
    }
  }

  /** That nothing came in a minute may be the path's doing: whoever holds the association decides when it is over. */
  async #answered<Answered>(ask: () => Promise<Answered>): Promise<Answered> {
    this.silence.asked();
    try {
      for (;;) {
        try {
          return await ask();
        } catch (error) {
          if (!(error instanceof CoapError && error.code === "COAP_TIMEOUT")) throw error;
        }
      }
    } finally {
      this.silence.settled();
    }
  }
}

/** What an association is given by its agent. */
export interface AssociationParts {
  readonly dpe2Guard: Dpe2Guard;
  /** A client of Digest for each association; absent without a username. */
  readonly digest: (() => DigestClient) | undefined;
  /** The `dpe2` argument of the registration; undefined: none. */
  readonly dpe2Uri: string | undefined;
  /** The server asked for DTLS before: whatever is configured, nothing less will do from then on. */
  readonly isRaised?: boolean;
  /** The port that it then named. */
  readonly port?: number | undefined;
  /** Ends requests that are not answered yet: what they carry stays unsent. */
  readonly ending: AbortSignal;
  onDpe2(request: RequestMessage): Answer;
  onAudit(event: AuditEvent): void;
}

function isError({ options }: RequestMessage): boolean {
  return options.uriPath.join("/") === `${PATH.dpe1}/${PATH.errors}`;
}

function unexpected(what: string, response: ResponseMessage): Error {
  const authError = authErrorOf(response);
  const code = formatCode(response.code);
  const required = securityRequiredOf(response);
  if (required !== undefined) return new SecurityRequiredError(required);
  // None of these says that the credential is wrong: a server that restarts makes every nonce stale.
  if (authError === "too-many-failures" || authError === "stale-nonce" || authError === "replayed")
    return new DpeError("DPE_NOT_REACHABLE", `the server puts the ${what} off: ${code} ${authError}`, {
      retryAfterMs: retryAfterMs(response),
    });
  if (authError !== undefined) {
    return new SecurityError(
      "SECURITY_AUTHENTICATION_REFUSED",
      `the server refused the ${what}: ${code} ${authError}`,
      { authError },
    );
  }
  const retryAfter = retryAfterMs(response);
  return new DpeError("DPE_BAD_REQUEST", `the server answered the ${what} with ${code}`, { retryAfterMs: retryAfter });
}

/** How long the server wants to be left alone: Max-Age of 4.29 (RFC 8516) and 5.03 (RFC 7252 §5.9.3.4); undefined: no such wish. */
function retryAfterMs({ code, options }: ResponseMessage): number | undefined {
  const { maxAge } = options;
  if (code === CODE.TooManyRequests) return (maxAge ?? DEFAULT_MAX_AGE_SECONDS) * 1000;
  return code === CODE.ServiceUnavailable && maxAge !== undefined ? maxAge * 1000 : undefined;
}

const NOT_FOUND: ResponseMessage = { code: CODE.NotFound, options: Options.none, payload: new Uint8Array(0) };
/** It is the content that is at fault, and will be the next time. */
const UNACCEPTABLE: ReadonlySet<number> = new Set([
  CODE.BadRequest,
  CODE.RequestEntityTooLarge,
  CODE.UnsupportedContentFormat,
]);
/** RFC 7252 §5.10.5 */
const DEFAULT_MAX_AGE_SECONDS = 60;
const NO_PAYLOAD = new Uint8Array(0);
/** A server that is asked for a sign of life is asked again after so long, then after twice as long each time. */
const ASK_AGAIN_MS = 750;
const DEREGISTER_TIMEOUT_MS = 2000;
const IP_UDP_HEADER_BYTES = 48;
/** Of CoAP, with the path of a registration. */
const HEADER_ROOM_BYTES = 80;
/** Of an answer of Digest. */
const DIGEST_ROOM_BYTES = 240;
/** A longer one would go in blocks (RFC 7959). */
const MAX_BLOCK_BYTES = 1024;
const LEAST_REPORT_BYTES = 128;
