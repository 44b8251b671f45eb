import { randomBytes } from "node:crypto";
import type { RequestMessage, ResponseMessage } from "#coap/index.js";
import {
  authErrorName,
  BINDING_OPTION,
  BINDING_OPTION_FORMATS,
  Devices,
  DpeError,
  type Registration,
  Registrations,
} from "#dpe/index.js";
import {
  type Answer,
  type CoapConnection,
  CoapEndpoint,
  type DtlsEndpoint,
  DtlsSession,
  type EndpointOptions,
  FileAssociationStore,
  formatAddress,
  listen,
  monotonicNow,
  type Observation,
  type ServerOptions,
  type SocketAddress,
  UdpSocket,
} from "#net/index.js";
import {
  type AuditEvent,
  AuditTrail,
  canonicalAddress,
  type ExternalIdentities,
  handshakeFailure,
  type Judgement,
  ProofChallenger,
  SecurityError,
  ServerGuard,
  type Subscriber,
} from "#security/index.js";
import type { AccountingEvent } from "#radius/index.js";
import type { SenmlRecord, SenmlValue } from "#senml/index.js";
import type { CertificateFaultAlert } from "#x509/index.js";
import { Discovery, isOpenResource } from "./discovery.js";
import { Dpe1Resources } from "./dpe1-resources.js";
import { Dpe2Connections } from "./dpe2-connections.js";
import { Dpe2Requests } from "./dpe2-requests.js";
import { gbaCredentials } from "./gba-config.js";
import { ExternalSources } from "./external-sources.js";
import { guardDigest } from "./interface-config.js";
import { PeerFacts } from "./peer-facts.js";
import { attachTrust, keptTrust } from "./kept-trust.js";
import type { ServerConfig } from "./server-config.js";
import { listenStreams, type StreamListeners } from "./stream-listeners.js";
import { ServerCredentials } from "./server-credentials.js";
import type { SubscriberConfig } from "./subscriber-config.js";

/** A DPE Server: DPE-1 on its sockets, and DPE-2 toward the registered endpoints over the associations that they opened. */
export class DpeServer {
  readonly registrations: Registrations = new Registrations(() => randomBytes(9).toString("base64url"));
  readonly devices: Devices = new Devices();
  /** Authentications of late, and counts of all. */
  readonly audit: AuditTrail = new AuditTrail();

  readonly #config: ServerConfig;
  readonly #credentials: ServerCredentials;
  readonly #guard: ServerGuard;
  readonly #resources: Dpe1Resources;
  readonly #coap: CoapEndpoint;
  readonly #onEvent: (event: ServerEvent) => void;
  readonly #facts: PeerFacts;
  readonly #connections: Dpe2Connections;
  readonly #dpe2: Dpe2Requests;
  #current: CoapConnection | undefined;
  #dtls: DtlsEndpoint | undefined;
  #sources: ExternalSources | undefined;
  #plain: UdpSocket | undefined;
  #streams: StreamListeners | undefined;
  #sweeper: NodeJS.Timeout | undefined;

  private constructor(config: ServerConfig, onEvent: (event: ServerEvent) => void, parts: ServerParts) {
    this.#config = config;
    this.#onEvent = onEvent;
    this.#credentials = new ServerCredentials(config);
    this.#facts = new PeerFacts(this.#credentials);
    const { dpe1, dpe2 } = config.interfaces;
    if (dpe1.clientAuthentication.includes("external") && parts.external === undefined) {
      throw new SecurityError(
        "SECURITY_NO_EXTERNAL_IDENTITIES",
        "clientAuthentication external, but nothing outside vouches for anybody",
      );
    }
    const { subscribers } = this.#credentials;
    const onAudit = (event: AuditEvent): void => this.#audited(event);
    this.#guard = new ServerGuard(
      "dpe1",
      { ...dpe1, digest: guardDigest(config.realm, dpe1.digest), securePort: dpe1.listen.coaps },
      {
        subscribers,
        external: parts.external,
        gba: config.gba && gbaCredentials(config.gba),
        random: randomBytes,
        isOpen: isOpenResource,
        onAudit,
      },
    );
    this.#resources = new Dpe1Resources({
      registrations: this.registrations,
      devices: this.devices,
      discovery: new Discovery(config, () => ({
        coap: this.#plain?.address.port,
        coaps: this.#dtls?.address.port,
      })),
      dpe2Addresses: dpe2.addresses.map((address) => canonicalAddress(address) ?? address),
      now: monotonicNow,
      onRegistered: (registration) => {
        if (this.#current !== undefined) this.#connections.heardOn(registration.endpoint, this.#current);
        this.#onEvent({ type: "registered", registration });
      },
      onDeregistered: (registration) => this.#forget(registration, "deregistered"),
      onReport: (registration, records) => {
        if (this.#current !== undefined) this.#connections.heardOn(registration.endpoint, this.#current);
        this.#onEvent({ type: "report", registration, records });
      },
      onClientError: (request, subscriber) => this.#clientError(request, subscriber),
    });
    this.#coap = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      blockwise: { optionsOutsideOperation: [BINDING_OPTION.DigestAuthorization] },
      onMessage: (message, peer, serve) => this.#guarded(message, peer, serve),
      onRequest: (request, peer, context) => this.#served(request, peer, context),
      onSend: (message, peer, send, context) => this.#dpe2.send(message, peer, send, context),
      onFault: (error) => this.#onEvent({ type: "fault", error }),
    });
    this.#connections = new Dpe2Connections(this.#coap, this.#credentials, onAudit);
    this.#dpe2 = new Dpe2Requests({
      connections: this.#connections,
      challenger: new ProofChallenger(
        { ...dpe2, digest: guardDigest(config.realm, dpe2.digest) },
        subscribers,
        randomBytes,
      ),
      canChallenge: dpe2.clientAuthentication.includes("digest"),
      facts: this.#facts,
      subscribers,
      onAudit,
    });
  }

  /** @throws NetError NET_PORT_IN_USE and those of binding; SecurityError SECURITY_NO_EXTERNAL_IDENTITIES; X509Error. */
  static async start(
    config: ServerConfig,
    onEvent: (event: ServerEvent) => void = () => undefined,
    parts: ServerParts = {},
  ): Promise<DpeServer> {
    const { external } = config.interfaces.dpe1;
    const sources =
      external === undefined || parts.external !== undefined
        ? undefined
        : await ExternalSources.open(external, (event) => onEvent({ type: "radius", event }));
    let server: DpeServer;
    try {
      server = new DpeServer(config, onEvent, sources === undefined ? parts : { ...parts, external: sources });
    } catch (error) {
      await sources?.close();
      throw error;
    }
    server.#sources = sources;
    try {
      await server.#listen();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** Where the server listens. */
  get addresses(): {
    readonly coap: SocketAddress | undefined;
    readonly coaps: SocketAddress | undefined;
    readonly coapTcp: SocketAddress | undefined;
    readonly coapsTcp: SocketAddress | undefined;
    readonly radius: SocketAddress | undefined;
  } {
    return {
      coap: this.#plain?.address,
      coaps: this.#dtls?.address,
      coapTcp: this.#streams?.coapTcp,
      coapsTcp: this.#streams?.coapsTcp,
      radius: this.#sources?.radiusAddress,
    };
  }

  /**
   * DPE-2: asks an endpoint for one property, or for all of them.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_NOT_REACHABLE, DPE_BAD_REQUEST for an error response; SecurityError
   * SECURITY_CLIENT_NOT_ACCEPTED where the client does not prove who it is; CoapError; NetError, DtlsError of dialling.
   */
  async query(endpoint: string, name?: string, signal?: AbortSignal): Promise<readonly SenmlRecord[]> {
    return this.#dpe2.query(this.#registered(endpoint), name, signal);
  }

  /** DPE-2: observes one property of an endpoint, or all. Throws as {@link query} does. */
  async observe(endpoint: string, name?: string): Promise<Observation> {
    return this.#dpe2.observe(this.#registered(endpoint), name);
  }

  /**
   * DPE-2: sets one property of an endpoint, where its configuration allows that.
   *
   * @throws as {@link query} does, a refusal as DPE_BAD_REQUEST with the endpoint's code; SenmlError for a bad name.
   */
  async set(endpoint: string, name: string, value: SenmlValue): Promise<void> {
    await this.#dpe2.set(this.#registered(endpoint), name, value);
  }

  /**
   * Takes subscribers in place of those before. Whatever was authenticated by a credential that has changed or is gone ends
   * at once: its associations, its Digest bindings, and with the subscriber its registrations.
   *
   * @throws DigestError DIGEST_BAD_USERNAME, changing nothing.
   */
  replaceSubscribers(subscribers: readonly SubscriberConfig[]): void {
    this.#endAssociationsOf(this.#credentials.replaceSubscribers(subscribers));
    for (const registration of this.registrations.list(monotonicNow())) {
      const { subscriber } = registration;
      if (subscriber === undefined || this.#credentials.subscribers.named(subscriber) !== undefined) continue;
      this.registrations.deregister(registration.id, subscriber, monotonicNow());
      this.#forget(registration, "deregistered");
    }
  }

  /** Ends the associations of one subscriber, and what Digest bound to them, at once; how it comes back is the policy's. */
  endAssociationsOf(subscriber: string): void {
    this.#endAssociationsOf(new Set([subscriber]));
  }

  /**
   * Takes credentials and subscribers of a configuration that was read anew: new handshakes use them at once. Associations
   * end at once whose certificate is not valid any more, whose key is another now, or whose subscriber is gone or changed.
   * All else of the configuration waits for a restart.
   *
   * @throws X509Error for a file that does not serve, changing nothing.
   */
  async reload(config: ServerConfig): Promise<void> {
    const connections = [...this.#coap.connections].filter(({ isSecure }) => isSecure);
    const keys = new Map(connections.map((connection) => [connection, this.#keyOf(connection)]));
    this.#credentials.replaceMaterial(config.credentials);
    this.replaceSubscribers(config.subscribers);
    this.#dtls?.replaceServer(this.#dtlsOptions());
    let ended = 0;
    for (const connection of connections) {
      const end = await this.#endOf(connection, keys.get(connection));
      if (end === undefined || connection.isClosed) continue;
      ended++;
      this.#onEvent({ type: "association-ended", peer: formatAddress(connection.remoteAddress), cause: end.cause });
      if (connection.transport instanceof DtlsSession) connection.transport.abort(end.alert, end.cause);
      else void connection.close();
    }
    this.#onEvent({ type: "reloaded", associationsEnded: ended });
  }

  /** Why an association may not go on with the credentials of now. */
  async #endOf(
    connection: CoapConnection,
    key: Uint8Array | undefined,
  ): Promise<{ readonly alert: CertificateFaultAlert | "access_denied"; readonly cause: string } | undefined> {
    const now = this.#keyOf(connection);
    const isSameKey = key === undefined ? now === undefined : now !== undefined && Buffer.compare(key, now) === 0;
    if (!isSameKey) return { alert: "access_denied", cause: "the pre-shared key has changed" };
    const { certificates = [] } = connection.peerInfo ?? {};
    if (certificates.length === 0) {
      // Of a certificate from before a restart only the hash is left: it goes on while what it was trusted for is the same.
      const { transport } = connection;
      const isKept = transport instanceof DtlsSession && transport.peer?.certificateHash !== undefined;
      return isKept && keptTrust(transport, this.#credentials, Date.now()) === undefined
        ? { alert: "certificate_unknown", cause: "trust has changed since the restart" }
        : undefined;
    }
    let verdict = await this.#credentials.verify(certificates);
    // An agent that this server dialled has shown its certificate as a server.
    if (!verdict.ok && verdict.cause === "wrong-usage")
      verdict = await this.#credentials.verify(certificates, "serverAuth");
    return verdict.ok ? undefined : { alert: verdict.alert, cause: verdict.reason };
  }

  #keyOf(connection: CoapConnection): Uint8Array | undefined {
    const identity = connection.peerInfo?.pskIdentity;
    return identity === undefined ? undefined : this.#credentials.pskOf(identity);
  }

  #endAssociationsOf(names: ReadonlySet<string>): void {
    for (const connection of this.#coap.connections) {
      const { psk, certificate, rawPublicKey, digestSubscriber } = this.#facts.of(connection);
      const isConcerned = [psk, certificate, rawPublicKey, digestSubscriber].some(
        (known) => typeof known === "object" && names.has(known.name),
      );
      if (isConcerned) void connection.close();
      else this.#facts.refresh(connection);
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    await this.#sources?.close();
    await Promise.all([this.#dtls?.close(), this.#streams?.close()]);
    await this.#coap.close();
  }

  async #listen(): Promise<void> {
    const { host, coap, coaps } = this.#config.interfaces.dpe1.listen;
    if (coaps !== undefined) {
      this.#dtls = await listen((session) => this.#opened(session), {
        host,
        port: coaps,
        server: this.#dtlsOptions(),
        verify: (certificates) => this.#credentials.verify(certificates),
        pskOf: (identity) => this.#credentials.pskOf(identity),
        ...this.#associations(),
        onHandshakeFailed: (remote, error) => {
          const where = { time: Date.now(), interface: "dpe1", side: "server", peer: formatAddress(remote) } as const;
          const failure = handshakeFailure(error, where);
          this.#audited(failure);
          this.#onEvent({ type: "handshake-failed", peer: failure.peer, cause: error?.code ?? "closed by the peer" });
        },
      });
    }
    if (coap !== undefined) {
      this.#plain = await UdpSocket.bind({ host, port: coap });
      this.#coap.addSocket(this.#plain);
    }
    this.#streams = await listenStreams(this.#config.interfaces.dpe1.listen, this.#coap, {
      ...(this.#credentials.certificate === undefined ? {} : { certificate: this.#credentials.certificate }),
      clientCertificate: this.#clientCertificate(),
      verify: (certificates) => this.#credentials.verify(certificates),
      ...(this.#credentials.hasPsk ? { pskOf: (identity) => this.#credentials.pskOf(identity) } : {}),
      onHandshakeFailed: (remote, error) =>
        this.#onEvent({
          type: "handshake-failed",
          peer: formatAddress(remote),
          cause: error instanceof Error && "code" in error ? String(error.code) : String(error),
        }),
    });
    this.#sweeper = setInterval(() => {
      for (const registration of this.registrations.sweep(monotonicNow())) this.#forget(registration, "expired");
    }, SWEEP_INTERVAL_MS);
  }

  #dtlsOptions(): ServerOptions {
    const { certificate, hasPsk } = this.#credentials;
    return {
      pskEnabled: hasPsk,
      ...(this.#config.dtls.connectionId === "on" ? {} : { connectionId: false as const }),
      ...(certificate === undefined ? {} : { certificate }),
      clientCertificate: this.#clientCertificate(),
    };
  }

  /** What keeps the associations over a restart, where the configuration names a file for it. */
  #associations(): Pick<EndpointOptions, "associations" | "onRestored"> {
    const path = this.#config.dtls.associations;
    if (path === undefined) return {};
    const associations = FileAssociationStore.open(path);
    const { refusal } = associations;
    return {
      associations,
      onRestored: (counts) =>
        this.#onEvent({ type: "associations-restored", ...counts, ...(refusal === undefined ? {} : { refusal }) }),
    };
  }

  #opened(session: DtlsSession): void {
    if (session.isRestored && keptTrust(session, this.#credentials, Date.now()) === undefined) {
      void session.close();
      return;
    }
    if (!session.isRestored && this.#config.dtls.associations !== undefined) attachTrust(session, this.#credentials);
    this.#coap.addSession(session);
  }

  /** Demanded where nothing else would do, asked for where it is one way of several. */
  #clientCertificate(): "none" | "request" | "require" {
    const { dpe1, dpe2 } = this.#config.interfaces;
    const modes = [...dpe1.clientAuthentication, ...dpe2.clientAuthentication];
    if (!modes.includes("certificate")) return "none";
    return dpe1.clientAuthentication.every((mode) => mode === "certificate") ? "require" : "request";
  }

  #guarded(
    message: RequestMessage,
    peer: CoapConnection,
    serve: (message: RequestMessage, context?: unknown) => Answer,
  ): Answer {
    const lookup = this.#guard.lookUp(message, this.#facts.of(peer), Date.now());
    if (lookup === undefined) return this.#judged(message, peer, serve);
    return lookup instanceof Promise ? lookup.then((outage) => outage ?? this.#judged(message, peer, serve)) : lookup;
  }

  #judged(
    message: RequestMessage,
    peer: CoapConnection,
    serve: (message: RequestMessage, context?: unknown) => Answer,
  ): Answer {
    const judgement = this.#guard.judge(message, this.#facts.of(peer), Date.now());
    if (judgement.type === "refuse") {
      this.#onEvent({
        type: "authentication-error",
        peer: formatAddress(peer.remoteAddress),
        error: judgement.error,
        rule: judgement.rule,
      });
      return judgement.response;
    }
    const answer = serve(message, judgement.subscriber);
    const { finish } = judgement;
    if (finish === undefined) return answer;
    return answer instanceof Promise
      ? answer.then((response) => ({ ...response, ...finish(response) }))
      : { ...answer, ...finish(answer) };
  }

  #served(request: RequestMessage, peer: CoapConnection, context: unknown): ResponseMessage {
    this.#current = peer;
    try {
      const { address } = this.#facts.of(peer);
      return this.#resources.handle(request, context as Extract<Judgement, { type: "accept" }>["subscriber"], address);
    } finally {
      this.#current = undefined;
    }
  }

  #registered(endpoint: string): Registration {
    const registration = this.registrations.ofEndpoint(endpoint, monotonicNow());
    if (registration === undefined)
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", `no endpoint ${endpoint} is registered`);
    return registration;
  }

  /** A client does not accept this server, or what it answered at DPE-2 (R12): logged, counted and listed. */
  #clientError(request: RequestMessage, subscriber: Subscriber | undefined): void {
    const authError = request.options.uint(BINDING_OPTION.AuthError);
    this.#onEvent({ type: "client-error", subscriber: subscriber?.name, authError });
    const association = this.#current === undefined ? undefined : this.#facts.of(this.#current);
    this.#audited({
      time: Date.now(),
      outcome: "failure",
      interface: "dpe1",
      side: "client",
      mode: undefined,
      subscriber: subscriber?.name,
      peer: association?.peer ?? "",
      connection: association?.connection ?? "none",
      rule: "the client's own policy",
      cause: (authError === undefined ? undefined : authErrorName(authError)) ?? "unnamed",
    });
  }

  #audited(event: AuditEvent): void {
    this.audit.record(event);
    this.#onEvent({ type: "audit", event });
  }

  #forget(registration: Registration, cause: "deregistered" | "expired"): void {
    this.#connections.forget(registration.endpoint);
    this.devices.forget(registration.endpoint);
    this.#onEvent({ type: "gone", registration, cause });
  }
}

/** What a server is given besides its configuration. */
export interface ServerParts {
  /** What functions outside of DPE know of subscribers; in place of what the configuration names. */
  readonly external?: ExternalIdentities;
}

/** What a server tells of its work; none of it holds a secret. */
export type ServerEvent =
  | { readonly type: "registered"; readonly registration: Registration }
  | { readonly type: "report"; readonly registration: Registration; readonly records: readonly SenmlRecord[] }
  | { readonly type: "gone"; readonly registration: Registration; readonly cause: "deregistered" | "expired" }
  | { readonly type: "authentication-error"; readonly peer: string; readonly error: string; readonly rule: string }
  | { readonly type: "audit"; readonly event: AuditEvent }
  /** Credentials and subscribers were read anew. */
  | { readonly type: "reloaded"; readonly associationsEnded: number }
  | { readonly type: "association-ended"; readonly peer: string; readonly cause: string }
  | {
      readonly type: "associations-restored";
      readonly restored: number;
      readonly refused: number;
      /** Why the file was not used at all. */
      readonly refusal?: string;
    }
  | { readonly type: "handshake-failed"; readonly peer: string; readonly cause: string }
  | { readonly type: "client-error"; readonly subscriber: string | undefined; readonly authError: number | undefined }
  | { readonly type: "radius"; readonly event: AccountingEvent }
  | { readonly type: "fault"; readonly error: unknown };

const SWEEP_INTERVAL_MS = 10_000;
