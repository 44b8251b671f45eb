import { randomBytes } from "node:crypto";
import type { EndpointCounters } from "#coap/index.js";
import { BINDING_OPTION, BINDING_OPTION_FORMATS, type Registration } from "#dpe/index.js";
import { changedKeys } from "#config/index.js";
import { canonicalIpAddress } from "#ip/index.js";
import { CoapEndpoint, type Observation, type SocketAddress, type SteeringCounters } from "#net/index.js";
import {
  type AuditEvent,
  AuditTrail,
  type ExternalIdentities,
  ProofChallenger,
  SecurityError,
  ServerGuard,
} from "#security/index.js";
import type { SenmlRecord, SenmlValue } from "#senml/index.js";
import { Store } from "#store/index.js";
import { AssociationReview } from "./association-review.js";
import { ContestedNames } from "./contested-names.js";
import { Discovery, isOpenResource } from "./discovery.js";
import { Dpe1Resources } from "./dpe1-resources.js";
import { Dpe2Connections } from "./dpe2-connections.js";
import { Dpe2Requests } from "./dpe2-requests.js";
import { gbaCredentials } from "./gba-config.js";
import { ExternalSources } from "./external-sources.js";
import { FleetEndpoints } from "./fleet-endpoints.js";
import type { FleetAnswer } from "./fleet-requests.js";
import { GuardedRequests, principalOf } from "./guarded-requests.js";
import { guardDigest } from "./interface-config.js";
import type { FollowOptions, FollowStep } from "./endpoint-followers.js";
import { LiveFeed } from "./live-event.js";
import { storeLimits } from "./limits-config.js";
import { NetworkPresence } from "./network-presence.js";
import { PeerFacts } from "./peer-facts.js";
import { Pairing } from "./pairing/pairing.js";
import type { ServerConfig } from "./server-config.js";
import { type OwnCertificate, ownCertificates } from "./own-certificates.js";
import { clientAnchorsOf, ServerCredentials } from "./server-credentials.js";
import type { ServerEvent } from "./server-event.js";
import {
  type AssociationCounts,
  type ListenerAddresses,
  ServerListeners,
  type ServerWorker,
} from "./server-listeners.js";
import { SubscriberChanges } from "./subscriber-changes.js";
import { SubscriberDirectory } from "./subscriber-directory.js";

/** A DPE Server: DPE-1 on its sockets, and DPE-2 toward the registered endpoints over the associations that they opened. */
export class DpeServer {
  /** What outlives this process, where the store does. */
  readonly store: Store;
  /** Who may use the service. */
  readonly directory: SubscriberDirectory;
  /** Codes for devices that are to be paired; undefined where the configuration has none of it. */
  readonly pairing: Pairing | undefined;
  /** Authentications of late, and counts of all. */
  readonly audit: AuditTrail = new AuditTrail();

  readonly #config: ServerConfig;
  readonly #credentials: ServerCredentials;
  readonly #coap: CoapEndpoint;
  readonly #onEvent: (event: ServerEvent) => void;
  readonly #listeners: ServerListeners;
  readonly #requests: GuardedRequests;
  readonly #review: AssociationReview;
  readonly #presence: NetworkPresence;
  readonly #connections: Dpe2Connections;
  readonly #dpe2: Dpe2Requests;
  readonly #endpoints: FleetEndpoints;
  readonly #ownsStore: boolean;
  readonly #live: LiveFeed;
  #sources: ExternalSources | undefined;
  #sweeper: NodeJS.Timeout | undefined;

  private constructor(config: ServerConfig, onEvent: (event: ServerEvent) => void, parts: ServerParts, store: Store) {
    this.store = store;
    this.#ownsStore = parts.store === undefined;
    this.#live = new LiveFeed(store);
    this.#config = config;
    this.#onEvent = onEvent;
    this.#credentials = new ServerCredentials(config);
    const credentials = this.#credentials;
    const facts = new PeerFacts(credentials);
    const { dpe1, dpe2 } = config.interfaces;
    if (dpe1.clientAuthentication.includes("external") && parts.external === undefined) {
      throw new SecurityError(
        "SECURITY_NO_EXTERNAL_IDENTITIES",
        "clientAuthentication external, but nothing outside vouches for anybody",
      );
    }
    const { subscribers } = credentials;
    const onAudit = (event: AuditEvent): void => this.#audited(event);
    const guard = new ServerGuard(
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
    const resources = new Dpe1Resources({
      store,
      discovery: new Discovery(config, () => this.#listeners.ports),
      dpe2Addresses: dpe2.addresses.map((address) => canonicalIpAddress(address) ?? address),
      now: Date.now,
      onRegistered: (registration, isAnew) => {
        if (isAnew) this.#endpoints.changed(registration.endpoint);
        this.#tell({ type: "registered", registration });
      },
      onDeregistered: (registration) => this.#forget(registration, "deregistered"),
      onReport: (registration, records) => this.#tell({ type: "report", registration, records }),
      onStoreFault: (error) => onEvent({ type: "fault", error }),
    });
    this.#coap = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      maxPlainPeers: config.limits.plainPeers,
      parameters: { roundTripEstimation: config.timeOuts },
      blockwise: { optionsOutsideOperation: [BINDING_OPTION.DigestAuthorization] },
      onMessage: (message, peer, serve) => this.#requests.guard(message, peer, serve),
      principalOf,
      onRequest: (request, peer, context) => this.#requests.serve(request, peer, context),
      onSend: (message, peer, send, context) => this.#dpe2.send(message, peer, send, context),
      onFault: (error) => onEvent({ type: "fault", error }),
    });
    const common = { coap: this.#coap, credentials, onEvent, onAudit };
    this.#review = new AssociationReview({ ...common, facts });
    const contested = new ContestedNames(onEvent);
    this.#connections = new Dpe2Connections(this.#coap, credentials, onAudit, (endpoint, from, to) => {
      this.#endpoints.changed(endpoint);
      contested.moved(endpoint, from, to);
    });
    const changes = new SubscriberChanges({
      store,
      credentials,
      review: this.#review,
      listeners: () => this.#listeners,
      onDeregistered: (registration) => this.#forget(registration, "deregistered"),
    });
    this.directory = new SubscriberDirectory({
      store,
      subscribers,
      realm: config.realm,
      configured: config.subscribers,
      connectionIdentities: config.credentials.psk.map(({ identity }) => identity),
      replace: (all) => changes.replace(all),
      change: (name, subscriber) => changes.change(name, subscriber),
      onFault: (error) => onEvent({ type: "fault", error }),
    });
    this.pairing =
      config.pairing &&
      new Pairing(config.pairing, {
        store,
        directory: this.directory,
        credentials,
        listenHost: dpe1.listen.host,
        port: () => this.#listeners.ports.coaps ?? 0,
        onEvent: (event) => onEvent({ type: "pairing", event }),
        onFault: (error) => onEvent({ type: "fault", error }),
      });
    this.#listeners = new ServerListeners({ ...common, config, pairing: this.pairing, worker: parts.worker });
    this.#presence = new NetworkPresence({ external: parts.external, subscribers, facts, onEvent });
    this.#requests = new GuardedRequests({
      guard,
      resources,
      facts,
      connections: this.#connections,
      presence: this.#presence,
      pairing: this.pairing,
      dpe2Authentication: dpe2.clientAuthentication.join(", "),
      onAwake: (endpoint) =>
        void this.#endpoints.deliver(endpoint).catch((error: unknown) => onEvent({ type: "fault", error })),
      onEvent,
      onAudit,
    });
    this.#dpe2 = new Dpe2Requests({
      connections: this.#connections,
      presence: this.#presence,
      challenger: new ProofChallenger(
        { ...dpe2, digest: guardDigest(config.realm, dpe2.digest) },
        subscribers,
        randomBytes,
      ),
      canChallenge: dpe2.clientAuthentication.includes("digest"),
      facts,
      subscribers,
      onAudit,
    });
    this.#endpoints = new FleetEndpoints({ store, connections: this.#connections, dpe2: this.#dpe2 });
  }

  /** @throws NetError NET_PORT_IN_USE and those of binding; SecurityError SECURITY_NO_EXTERNAL_IDENTITIES; X509Error. */
  static async start(
    config: ServerConfig,
    onEvent: (event: ServerEvent) => void = () => undefined,
    parts: ServerParts = {},
  ): Promise<DpeServer> {
    const { external } = config.interfaces.dpe1;
    let server: DpeServer | undefined;
    const sources =
      external === undefined || parts.external !== undefined
        ? undefined
        : await ExternalSources.open(external, (event) => {
            onEvent({ type: "radius", event });
            server?.networkChanged();
          });
    let store: Store | undefined;
    try {
      store = parts.store ?? (await Store.open({ type: "memory" }, { limits: storeLimits(config.limits) }));
      server = new DpeServer(config, onEvent, sources === undefined ? parts : { ...parts, external: sources }, store);
      server.#sources = sources;
      await server.#endpoints.start();
      await server.directory.start();
      await server.#listeners.open();
      server.#startSweeping();
      return server;
    } catch (error) {
      await (server === undefined ? sources : server)?.close();
      if (server === undefined && parts.store === undefined) await store?.close();
      throw error;
    }
  }

  /** The certificates that it rests on, and whether they near their end. */
  certificates(now: number): readonly OwnCertificate[] {
    const { certificate, clientAnchors } = this.#credentials;
    const { authority } = this.pairing ?? {};
    const material = {
      server: certificate?.chain.slice(0, 1) ?? [],
      "client-ca": clientAnchors,
      "pairing-ca": authority === undefined ? [] : [authority],
    };
    return ownCertificates(material, now);
  }

  /** Where the server listens. */
  get addresses(): ListenerAddresses & { readonly radius: SocketAddress | undefined } {
    return { ...this.#listeners.addresses, radius: this.#sources?.radiusAddress };
  }

  /**
   * DPE-2: asks an endpoint for one property, for several by one FETCH (RFC 8790), or for all of them.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_NOT_ALLOWED, DPE_NOT_REACHABLE, DPE_BAD_REQUEST for an error response; SecurityError
   * SECURITY_CLIENT_NOT_ACCEPTED where the client does not prove who it is; CoapError; NetError, DtlsError of dialling.
   */
  async query(
    endpoint: string,
    names: string | readonly string[] = [],
    signal?: AbortSignal,
  ): Promise<readonly SenmlRecord[]> {
    return this.#endpoints.query(endpoint, typeof names === "string" ? [names] : names, signal);
  }

  /** DPE-2: observes one property of an endpoint, or all. Throws as {@link query} does. */
  async observe(endpoint: string, name?: string): Promise<Observation> {
    return this.#endpoints.observe(endpoint, name);
  }

  /**
   * DPE-2: observes an endpoint for as long as somebody listens, through its restarts, other addresses and absences. Throws
   * as {@link query} does where the first observation fails.
   */
  follow(endpoint: string, options: FollowOptions): AsyncGenerator<FollowStep, void, undefined> {
    return this.#endpoints.follow(endpoint, options);
  }

  /** DPE-2 to any endpoint of the fleet, at another server or asleep too: see {@link FleetRequests.ask}. */
  ask(endpoint: string, names: readonly string[], signal?: AbortSignal): Promise<FleetAnswer> {
    return this.#endpoints.ask(endpoint, names, signal);
  }

  /** Peers that are spoken with. */
  get connections(): number {
    return this.#coap.usage.connections;
  }

  /** Records and datagrams that DTLS dropped in silence since the start, by reason. */
  get dtlsDropped(): ServerListeners["dropped"] {
    return this.#listeners.dropped;
  }

  /** TCP connections that the server closed at once since the start, as there were too many, by reason. */
  get tcpRefused(): ServerListeners["refused"] {
    return this.#listeners.refused;
  }

  /** What was handed between the processes on the same ports; undefined for one that is alone. */
  get steeringCounters(): SteeringCounters | undefined {
    return this.#listeners.steeringCounters;
  }

  /** DTLS associations since the start, by how they came to be. */
  get associationCounts(): Readonly<AssociationCounts> {
    return this.#listeners.associations;
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
    await this.#endpoints.set(endpoint, name, value);
  }

  /** Ends the associations of one subscriber, and what Digest bound to them, at once; how it comes back is the policy's. */
  endAssociationsOf(subscriber: string): void {
    const known = this.#credentials.subscribers.named(subscriber);
    if (known !== undefined) this.#review.endOf([known]);
  }

  /**
   * Takes credentials, subscribers and the CA of pairing of a configuration that was read anew: new handshakes use them at once. Associations
   * end at once whose certificate is not valid any more, whose key is another now, or whose subscriber is gone or changed.
   * All else of the configuration waits for a restart, and is told by its keys.
   *
   * @throws X509Error for a file that does not serve, changing nothing.
   */
  async reload(config: ServerConfig): Promise<void> {
    const endWhatMayNotGoOn = this.#review.begin();
    const pair = config.pairing && this.pairing?.prepare(config.pairing, clientAnchorsOf(config.credentials));
    this.#credentials.replaceMaterial(config.credentials);
    pair?.();
    await this.directory.configure(config.subscribers);
    this.#listeners.replaceCredentials();
    const waiting = changedKeys(this.#config, config).filter((key) => !TAKEN_AT_ONCE.test(key));
    this.#onEvent({ type: "reloaded", associationsEnded: await endWhatMayNotGoOn(), waiting });
  }

  /** What the part `external` knows of addresses has changed: see {@link NetworkPresence}. RADIUS accounting tells by itself. */
  networkChanged(): void {
    this.#presence.changed();
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    await this.#requests.settled(CLOSE_TIMEOUT_MS);
    await this.#sources?.close();
    await this.#listeners.close();
    await this.#coap.close();
    this.#endpoints.close();
    this.directory.close();
    if (this.#ownsStore) await this.store.close();
  }

  #audited(event: AuditEvent): void {
    this.audit.record(event);
    this.#onEvent({ type: "audit", event });
  }

  #startSweeping(): void {
    this.#sweeper = setInterval(() => void this.#sweep(), SWEEP_INTERVAL_MS);
  }

  async #sweep(): Promise<void> {
    const now = Date.now();
    const { registrations } = this.store;
    this.#presence.sweep();
    try {
      for (const registration of await registrations.sweep(now)) this.#forget(registration, "expired");
      await this.#connections.sweep(async (endpoint) => (await registrations.ofEndpoint(endpoint, now)) !== undefined);
    } catch (error) {
      this.#onEvent({ type: "fault", error });
    }
  }

  #forget(registration: Registration, cause: "deregistered" | "expired"): void {
    this.#connections.forget(registration.endpoint);
    this.#endpoints.changed(registration.endpoint);
    this.#tell({ type: "gone", registration, cause });
  }

  /** Tells this process, and whoever follows the fleet at any server of the store. */
  #tell(event: Extract<ServerEvent, { readonly registration: Registration }>): void {
    this.#onEvent(event);
    this.#live.tell(event);
  }
}

/** What a server is given besides its configuration. */
export interface ServerParts {
  /** What functions outside of DPE know of subscribers; in place of what the configuration names. */
  readonly external?: ExternalIdentities;
  /** Its state; the caller closes it, after the server. Default: one in memory. */
  readonly store?: Store;
  /** Where several processes listen on the same ports. Default: this one alone. */
  readonly worker?: ServerWorker;
}

const TAKEN_AT_ONCE = /^(?:credentials|subscribers)(?:\.|$)/;
const CLOSE_TIMEOUT_MS = 2000;
const SWEEP_INTERVAL_MS = 10_000;
