import { CODE, formatCode, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import {
  AUTH_ERROR,
  type AuthErrorName,
  BINDING_OPTION,
  CONTENT_FORMAT,
  DpeError,
  PATH,
  type Registration,
} from "#dpe/index.js";
import type { CoapConnection, Observation, SendMessage } from "#net/index.js";
import {
  type AuditEvent,
  type ClientDecision,
  type ClientOffer,
  digestUri,
  isSameSubscriber,
  mayRegister,
  mayReport,
  offerAsText,
  type ProofChallenger,
  SecurityError,
  securityRequiredOf,
  type Subscriber,
  type Subscribers,
} from "#security/index.js";
import { decodePack, encodeFetchPack, encodePack, type SenmlRecord, type SenmlValue } from "#senml/index.js";
import type { Dpe2Connections } from "./dpe2-connections.js";
import type { NetworkPresence } from "./network-presence.js";
import type { PeerFacts } from "./peer-facts.js";

/**
 * DPE-2 from the server's side: queries and observations, each under the policy of that interface. A response that is not
 * authenticated as policy asks is discarded, and the client told at `/dpe2/err`.
 */
export class Dpe2Requests {
  readonly #parts: Dpe2Parts;

  constructor(parts: Dpe2Parts) {
    this.#parts = parts;
  }

  /** Asks an endpoint for one property, several, or all. @throws as {@link DpeServer.query}. */
  async query(
    registration: Registration,
    names: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<readonly SenmlRecord[]> {
    const found: SenmlRecord[] = [];
    let left: readonly (string | undefined)[] = names.length === 0 ? [undefined] : names;
    if (names.length > 1) {
      const response = await this.#request(registration, names, fetchRequest(names), signal);
      // An endpoint that knows no FETCH, or not this format, is asked for one after the other.
      if (!NO_FETCH.has(response.code)) found.push(...recordsOf(response));
      // RFC 8790 §3.1 leaves out what is not there by that very name; it may stand for all below it.
      left = names.filter((name) => !found.some((record) => record.name === name));
    }
    for (const name of left) {
      const asked = name === undefined ? [] : [name];
      found.push(...recordsOf(await this.#request(registration, asked, propertyRequest(name), signal)));
    }
    return found;
  }

  /** Sets one property of an endpoint. @throws as {@link DpeServer.set}. */
  async set(registration: Registration, name: string, value: SenmlValue): Promise<void> {
    const { options } = propertyRequest(name);
    const request = {
      code: CODE.PUT,
      options: options.without(OPTION.Accept).with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor),
      payload: encodePack([{ name, value }], "cbor"),
    };
    const { code } = await this.#request(registration, [name], request, undefined);
    if (code !== CODE.Changed) throw new DpeError("DPE_BAD_REQUEST", `the endpoint answered ${formatCode(code)}`);
  }

  /** Sends a request, once more over DTLS where the endpoint requires that. */
  async #request(
    registration: Registration,
    names: readonly string[],
    request: RequestMessage,
    signal: AbortSignal | undefined,
  ): Promise<ResponseMessage> {
    const options = { context: registration, ...(signal === undefined ? {} : { signal }) };
    const connection = await this.#reach(registration, names);
    const response = await connection.request(request, options);
    const required = connection.isSecure ? undefined : securityRequiredOf(response);
    if (required === undefined) return response;
    const secured = await this.#parts.connections.secured(registration, required.port);
    if (secured === undefined) return response;
    this.#accept(registration, secured);
    return secured.request(request, options);
  }

  /** Observes one property of an endpoint, or all. */
  async observe(registration: Registration, { name, conditions, signal }: ObserveOptions): Promise<Observation> {
    const connection = await this.#reach(registration, name === undefined ? [] : [name]);
    const { options: plain, ...request } = propertyRequest(name);
    const asking = { ...request, options: plain.withAll(OPTION.UriQuery, conditions ?? []) };
    const options = { context: registration, ...(signal === undefined ? {} : { signal }) };
    const observation = await connection.observe(asking, options);
    const required = connection.isSecure ? undefined : securityRequiredOf(observation.first);
    if (required === undefined) return observation;
    const secured = await this.#parts.connections.secured(registration, required.port);
    if (secured === undefined) return observation;
    observation.cancel();
    this.#accept(registration, secured);
    return secured.observe(asking, options);
  }

  /** Sends one message of a request of ours: with a challenge where policy asks for a proof, which is then judged. */
  async send(
    message: RequestMessage,
    connection: CoapConnection,
    send: SendMessage,
    context: unknown,
  ): Promise<ResponseMessage> {
    if (context === undefined) return send(message);
    const registration = context as Registration;
    const association = this.#parts.facts.of(connection);
    const exchange = this.#parts.challenger.begin(association);
    const uri = digestUri(message.options);
    const judge = (response: ResponseMessage): Judged => {
      const judged = exchange.judge(response, uri, Date.now());
      return this.#isOwners(judged.decision, registration) ? judged : { ...judged, decision: NOT_THE_OWNER };
    };
    const options =
      exchange.challenge === undefined
        ? message.options
        : message.options.with(BINDING_OPTION.DigestChallenge, exchange.challenge);
    const response = await send({ ...message, options }, (notification) => {
      const judged = judge(notification);
      if (judged.decision.type === "refuse") this.#refused(registration, connection, judged);
      return judged.decision.type === "accept";
    });
    // What the client refuses to do without DTLS it cannot prove either: that answer only makes us ask anew over DTLS.
    if (!connection.isSecure && securityRequiredOf(response) !== undefined) return response;
    // Nor can it before we have shown that we receive (RFC 9175 §2.3); then the endpoint asks once more.
    const isEcho = response.code === CODE.Unauthorized && response.options.has(OPTION.Echo);
    if (isEcho && !message.options.has(OPTION.Echo)) return response;
    const judged = judge(response);
    if (judged.decision.type === "refuse") throw this.#refused(registration, connection, judged);
    this.#audit(registration, connection, judged);
    return response;
  }

  /**
   * Whether an endpoint may be asked for these properties, or all where none is named, wherever it is. Gives its subscriber.
   *
   * @throws DpeError DPE_NOT_ALLOWED; DPE_NOT_REACHABLE where its subscriber is gone.
   */
  check({ endpoint, subscriber: name }: Registration, names: readonly string[]): Subscriber | undefined {
    if (name === undefined) return undefined;
    const subscriber = this.#parts.subscribers.named(name);
    if (subscriber === undefined)
      throw new DpeError("DPE_NOT_REACHABLE", `${endpoint}: its subscriber is no longer known`);
    if (subscriber.properties !== undefined && !mayAsk(subscriber, names))
      throw new DpeError("DPE_NOT_ALLOWED", `${endpoint}: its subscriber may not be asked for that`);
    return subscriber;
  }

  /** No names: all properties are asked for. */
  async #reach(registration: Registration, names: readonly string[]): Promise<CoapConnection> {
    const subscriber = this.check(registration, names);
    const { connections, presence } = this.#parts;
    const connection = await connections.to(registration);
    this.#accept(registration, connection);
    if (!presence.allows(subscriber, connections.lastHeardOn(registration.endpoint), connection))
      throw new DpeError("DPE_NOT_REACHABLE", `${registration.endpoint}: the network does not have it there any more`);
    return connection;
  }

  /** Whether the connection alone rules the request out, before anything is sent. */
  #accept({ endpoint }: Registration, connection: CoapConnection): void {
    const decision = this.#parts.challenger.decide(this.#parts.facts.of(connection));
    const isFinal =
      decision.type === "refuse" && (decision.error !== "credentials-required" || !this.#parts.canChallenge);
    if (isFinal) throw new DpeError("DPE_NOT_REACHABLE", `${endpoint}: ${decision.error} (${decision.rule})`);
  }

  #isOwners(decision: ClientDecision, { endpoint, subscriber }: Registration): boolean {
    if (decision.type === "refuse") return true;
    const mayOwn = decision.subscriber === undefined || mayRegister(decision.subscriber, endpoint);
    return mayOwn && isSameSubscriber(decision, subscriber);
  }

  #refused(registration: Registration, connection: CoapConnection, judged: Judged): SecurityError {
    this.#audit(registration, connection, judged);
    const { decision } = judged;
    const authError = decision.type === "refuse" ? decision.error : "invalid-credentials";
    // Nobody waits for it, and a client that does not answer loses nothing but the reason.
    connection.request(errorRequest(authError)).catch(() => undefined);
    const what = `${registration.endpoint}: ${authError} (${decision.rule})`;
    return new SecurityError("SECURITY_CLIENT_NOT_ACCEPTED", what, { authError });
  }

  #audit({ subscriber }: Registration, connection: CoapConnection, { decision, offer, detail }: Judged): void {
    const association = this.#parts.facts.of(connection);
    const common = {
      time: Date.now(),
      interface: "dpe2",
      side: "server",
      peer: association.peer ?? association.address,
      connection: association.connection,
      rule: decision.rule,
      offer: offerAsText(offer),
      ...(detail === undefined ? {} : { detail }),
    } as const;
    if (decision.type === "refuse") {
      const mode = offer.digest === undefined ? undefined : "digest";
      this.#parts.onAudit({ ...common, outcome: "failure", mode, subscriber, cause: decision.error });
      return;
    }
    const told = `dpe2 ${decision.mode} ${decision.subscriber?.name ?? ""}`;
    if (association.toldDpe2 === told && decision.mode !== "digest") return;
    association.toldDpe2 = told;
    const name = decision.subscriber?.name;
    this.#parts.onAudit({ ...common, outcome: "success", mode: decision.mode, subscriber: name, cause: "accepted" });
  }
}

/** What is observed of an endpoint. */
export interface ObserveOptions {
  /** Default: all its properties. */
  readonly name?: string;
  /** Conditional attributes as the query has them: `c.pmin=5`. Default: none. */
  readonly conditions?: readonly string[];
  /** Ends the asking; an observation that stands is ended by its own `cancel`. */
  readonly signal?: AbortSignal;
}

export interface Dpe2Parts {
  readonly connections: Dpe2Connections;
  readonly presence: NetworkPresence;
  readonly challenger: ProofChallenger;
  /** Whether the policy lists Digest. */
  readonly canChallenge: boolean;
  readonly facts: PeerFacts;
  readonly subscribers: Subscribers;
  onAudit(event: AuditEvent): void;
}

/** The properties in a DPE-2 response. @throws DpeError DPE_BAD_REQUEST for an error response; SenmlError. */
export function recordsOf(response: ResponseMessage): SenmlRecord[] {
  if (response.code !== CODE.Content)
    throw new DpeError(
      "DPE_BAD_REQUEST",
      `the endpoint answered ${formatCode(response.code)}${response.code === CODE.NotFound ? ": it has no such property" : ""}`,
    );
  const format = response.options.contentFormat === CONTENT_FORMAT.senmlJson ? "json" : "cbor";
  return decodePack(response.payload, format, Date.now() / 1000);
}

interface Judged {
  readonly decision: ClientDecision;
  readonly offer: ClientOffer;
  readonly detail?: string;
}

function propertyRequest(name: string | undefined): RequestMessage {
  const path = [PATH.dpe2, PATH.properties, ...(name?.split("/") ?? [])];
  const options = Options.none.withAll(OPTION.UriPath, path).with(OPTION.Accept, CONTENT_FORMAT.senmlCbor);
  return { code: CODE.GET, options, payload: NO_PAYLOAD };
}

/** RFC 8790 §3.1 */
function fetchRequest(names: readonly string[]): RequestMessage {
  const options = Options.none
    .withAll(OPTION.UriPath, [PATH.dpe2, PATH.properties])
    .with(OPTION.ContentFormat, CONTENT_FORMAT.senmlEtchCbor)
    .with(OPTION.Accept, CONTENT_FORMAT.senmlCbor);
  const payload = encodeFetchPack(
    names.map((name) => ({ name })),
    "cbor",
  );
  return { code: CODE.FETCH, options, payload };
}

function mayAsk(subscriber: Subscriber, names: readonly string[]): boolean {
  return names.length > 0 && names.every((name) => mayReport(subscriber, name));
}

function errorRequest(error: AuthErrorName): RequestMessage {
  const options = Options.none
    .withAll(OPTION.UriPath, [PATH.dpe2, PATH.errors])
    .with(BINDING_OPTION.AuthError, AUTH_ERROR[error]);
  return { code: CODE.POST, options, payload: NO_PAYLOAD };
}

const NOT_THE_OWNER: ClientDecision = {
  type: "refuse",
  rule: "dpe2: another subscriber than the one that registered the endpoint",
  error: "not-authorized",
};
const NO_FETCH: ReadonlySet<number> = new Set([
  CODE.BadOption,
  CODE.NotFound,
  CODE.MethodNotAllowed,
  CODE.UnsupportedContentFormat,
  CODE.NotImplemented,
]);
const NO_PAYLOAD = new Uint8Array(0);
