import { randomBytes } from "node:crypto";
import type { EndpointCounters, RequestMessage, ResponseMessage } from "#coap/index.js";
import { authErrorName, BINDING_OPTION, BINDING_OPTION_FORMATS, DpeError, type Registration } from "#dpe/index.js";
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
import { type DeviceSecurity, encodeRow, Store } from "#store/index.js";
import { Discovery, isOpenResource } from "./discovery.js";
import { Dpe1Resources } from "./dpe1-resources.js";
import { Dpe2Connections } from "./dpe2-connections.js";
import { Dpe2Requests } from "./dpe2-requests.js";
import { gbaCredentials } from "./gba-config.js";
import { ExternalSources } from "./external-sources.js";
import { type FleetAnswer, FleetRequests } from "./fleet-requests.js";
import { guardDigest } from "./interface-config.js";
import { LIVE_CHANNEL, liveEventOf } from "./live-event.js";
import { PeerFacts } from "./peer-facts.js";
import { attachTrust, keptTrust } from "./kept-trust.js";
import type { ServerConfig } from "./server-config.js";
import { listenStreams, type StreamListeners } from "./stream-listeners.js";
import { ServerCredentials } from "./server-credentials.js";
import type { SubscriberConfig } from "./subscriber-config.js";
import { SubscriberDirectory } from "./subscriber-directory.js";

/** A DPE Server: DPE-1 on its sockets, and DPE-2 toward the registered endpoints over the associations that they opened. */
export class DpeServer {
  /** What outlives this process, where the store does. */
  readonly store: Store;
  /** Who may use the service. */
  readonly directory: SubscriberDirectory;
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
  readonly #fleet: FleetRequests;
  readonly #ownsStore: boolean;
  /** Answers that wait for the store. */
  readonly #unanswered = new Set<Promise<unknown>>();
  #dtls: DtlsEndpoint | undefined;
  #sources: ExternalSources | undefined;
  #plain: UdpSocket | undefined;
  #streams: StreamListeners | undefined;
  #sweeper: NodeJS.Timeout | undefined;

  private constructor(config: ServerConfig, onEvent: (event: ServerEvent) => void, parts: ServerParts, store: Store) {
    this.store = store;
    this.#ownsStore = parts.store === undefined;
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
      store,
      discovery: new Discovery(config, () => ({
        coap: this.#plain?.address.port,
        coaps: this.#dtls?.address.port,
      })),
      dpe2Addresses: dpe2.addresses.map((address) => canonicalAddress(address) ?? address),
      now: Date.now,
      onRegistered: (registration) => this.#tell({ type: "registered", registration }),
      onDeregistered: (registration) => this.#forget(registration, "deregistered"),
      onReport: (registration, records) => this.#tell({ type: "report", registration, records }),
      onStoreFault: (error) => this.#onEvent({ type: "fault", error }),
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
    this.directory = new SubscriberDirectory({
      store,
      realm: config.realm,
      configured: config.subscribers,
      connectionIdentities: config.credentials.psk.map(({ identity }) => identity),
      replace: (all) => this.replaceSubscribers(all),
      onFault: (error) => this.#onEvent({ type: "fault", error }),
    });
    this.#fleet = new FleetRequests({
      store,
      isHere: (endpoint) => this.#connections.hears(endpoint),
      query: (endpoint, name, signal) => this.query(endpoint, name, signal),
    });
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
    let store: Store | undefined;
    let server: DpeServer | undefined;
    try {
      store = parts.store ?? (await Store.open({ type: "memory" }));
      server = new DpeServer(config, onEvent, sources === undefined ? parts : { ...parts, external: sources }, store);
      server.#sources = sources;
      await server.#fleet.start();
      await server.directory.start();
      await server.#listen();
      return server;
    } catch (error) {
      await (server === undefined ? sources : server)?.close();
      if (server === undefined && parts.store === undefined) await store?.close();
      throw error;
    }
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
    return this.#dpe2.query(await this.#registered(endpoint), name, signal);
  }

  /** DPE-2: observes one property of an endpoint, or all. Throws as {@link query} does. */
  async observe(endpoint: string, name?: string): Promise<Observation> {
    return this.#dpe2.observe(await this.#registered(endpoint), name);
  }

  /** DPE-2 to any endpoint of the fleet, at another server or asleep too: see {@link FleetRequests.ask}. */
  ask(endpoint: string, names: readonly string[], signal?: AbortSignal): Promise<FleetAnswer> {
    return this.#fleet.ask(endpoint, names, Date.now(), signal);
  }

  /** Peers that are spoken with. */
  get connections(): number {
    return [...this.#coap.connections].length;
  }

  get coapCounters(): EndpointCounters {
    return this.#coap.counters;
  }

  /**
   * DPE-2: sets one property of an endpoint, where its configuration allows that.
   *
   * @throws as {@link query} does, a refusal as DPE_BAD_REQUEST with the endpoint's code; SenmlError for a bad name.
   */
  async set(endpoint: string, name: string, value: SenmlValue): Promise<void> {
    await this.#dpe2.set(await this.#registered(endpoint), name, value);
  }

  /**
   * Takes subscribers in place of those before. Whatever was authenticated by a credential that has changed or is gone ends
   * at once: its associations, its Digest bindings, and with the subscriber its registrations.
   *
   * @throws DigestError DIGEST_BAD_USERNAME, changing nothing.
   */
  async replaceSubscribers(subscribers: readonly SubscriberConfig[]): Promise<void> {
    this.#endAssociationsOf(this.#credentials.replaceSubscribers(subscribers));
    const { registrations } = this.store;
    for (let after: string | undefined; ;) {
      const page = await registrations.page(
        { ...(after === undefined ? {} : { after }), limit: DEVICE_PAGE },
        Date.now(),
      );
      for (const { registration, subscriber } of page) {
        const isKnown = subscriber === undefined || this.#credentials.subscribers.named(subscriber) !== undefined;
        if (registration === undefined || isKnown) continue;
        this.#forget(await registrations.deregister(registration.id, subscriber, Date.now()), "deregistered");
      }
      after = page.at(-1)?.endpoint;
      if (page.length < DEVICE_PAGE) return;
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
    await this.directory.configure(config.subscribers);
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
    // What has come in is answered: a client that does not hear what became of its request sends it again elsewhere.
    await within(CLOSE_TIMEOUT_MS, Promise.allSettled(this.#unanswered));
    await new Promise((resolve) => setImmediate(resolve));
    await this.#sources?.close();
    await Promise.all([this.#dtls?.close(), this.#streams?.close()]);
    await this.#coap.close();
    this.#fleet.close();
    this.directory.close();
    if (this.#ownsStore) await this.store.close();
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
    this.#sweeper = setInterval(() => void this.#sweep(), SWEEP_INTERVAL_MS);
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
    const answer = serve(message, judgement);
    if (answer instanceof Promise) this.#follow(answer);
    const { finish } = judgement;
    if (finish === undefined) return answer;
    return answer instanceof Promise
      ? answer.then((response) => ({ ...response, ...finish(response) }))
      : { ...answer, ...finish(answer) };
  }

  #follow(answer: Promise<unknown>): void {
    this.#unanswered.add(answer);
    void answer.catch(() => undefined).finally(() => this.#unanswered.delete(answer));
  }

  #served(request: RequestMessage, peer: CoapConnection, context: unknown): Promise<ResponseMessage> {
    const { mode, subscriber } = context as Extract<Judgement, { type: "accept" }>;
    return this.#resources.handle(request, subscriber, {
      sender: this.#facts.of(peer).address,
      security: this.#securityOf(peer, mode),
      onHeard: (registration) => {
        this.#connections.heardOn(registration.endpoint, peer);
        if (!registration.isQueueMode) return;
        this.#fleet
          .deliver(registration.endpoint, Date.now())
          .catch((error: unknown) => this.#onEvent({ type: "fault", error }));
      },
      onClientError: (message, client) => this.#clientError(message, client, peer),
    });
  }

  #securityOf(peer: CoapConnection, authentication: string): DeviceSecurity {
    const { connection } = this.#facts.of(peer);
    const { peerInfo } = peer;
    const suite = peerInfo !== undefined && "suite" in peerInfo ? String(peerInfo.suite) : undefined;
    const level = { connection, ...(suite === undefined ? {} : { cipherSuite: suite }) };
    return {
      dpe1: { ...level, authentication },
      dpe2: { ...level, authentication: this.#config.interfaces.dpe2.clientAuthentication.join(", ") },
      address: formatAddress(peer.remoteAddress),
    };
  }

  async #registered(endpoint: string): Promise<Registration> {
    const registration = await this.store.registrations.ofEndpoint(endpoint, Date.now());
    if (registration === undefined)
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", `no endpoint ${endpoint} is registered`);
    return registration;
  }

  /** A client does not accept this server, or what it answered at DPE-2 (R12): logged, counted and listed. */
  #clientError(request: RequestMessage, subscriber: Subscriber | undefined, peer: CoapConnection): void {
    const authError = request.options.uint(BINDING_OPTION.AuthError);
    this.#onEvent({ type: "client-error", subscriber: subscriber?.name, authError });
    const association = this.#facts.of(peer);
    this.#audited({
      time: Date.now(),
      outcome: "failure",
      interface: "dpe1",
      side: "client",
      mode: undefined,
      subscriber: subscriber?.name,
      peer: association.peer ?? "",
      connection: association.connection,
      rule: "the client's own policy",
      cause: (authError === undefined ? undefined : authErrorName(authError)) ?? "unnamed",
    });
  }

  #audited(event: AuditEvent): void {
    this.audit.record(event);
    this.#onEvent({ type: "audit", event });
  }

  async #sweep(): Promise<void> {
    const now = Date.now();
    try {
      for (const registration of await this.store.registrations.sweep(now)) this.#forget(registration, "expired");
      await this.store.nonces.sweep(now);
      await this.store.associations.sweep(now);
    } catch (error) {
      this.#onEvent({ type: "fault", error });
    }
  }

  #forget(registration: Registration, cause: "deregistered" | "expired"): void {
    this.#connections.forget(registration.endpoint);
    this.#tell({ type: "gone", registration, cause });
  }

  /** Tells this process, and whoever follows the fleet at any server of the store. */
  #tell(event: Extract<ServerEvent, { readonly registration: Registration }>): void {
    this.#onEvent(event);
    this.store.backend.publish(LIVE_CHANNEL, encodeRow(liveEventOf(event)));
  }
}

/** What a server is given besides its configuration. */
export interface ServerParts {
  /** What functions outside of DPE know of subscribers; in place of what the configuration names. */
  readonly external?: ExternalIdentities;
  /** Its state; the caller closes it, after the server. Default: one in memory. */
  readonly store?: Store;
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

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}

const CLOSE_TIMEOUT_MS = 2000;
const DEVICE_PAGE = 500;
const SWEEP_INTERVAL_MS = 10_000;
