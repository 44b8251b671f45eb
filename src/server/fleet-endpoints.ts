import { DpeError, type Registration } from "#dpe/index.js";
import type { Observation } from "#net/index.js";
import type { SenmlRecord, SenmlValue } from "#senml/index.js";
import type { Store } from "#store/index.js";
import type { Dpe2Connections } from "./dpe2-connections.js";
import type { Dpe2Requests, ObserveOptions } from "./dpe2-requests.js";
import { EndpointFollowers, type FollowOptions, type FollowStep } from "./endpoint-followers.js";
import { FleetObservations } from "./fleet-observations.js";
import { type FleetAnswer, FleetRequests } from "./fleet-requests.js";
import { type PropertyObservation, propertyObservation } from "./property-observation.js";

/** DPE-2 toward the endpoints of the fleet: those that this server hears, and those of the other servers of its store. */
export class FleetEndpoints {
  readonly #store: Store;
  readonly #connections: Dpe2Connections;
  readonly #dpe2: Dpe2Requests;
  readonly #requests: FleetRequests;
  readonly #observations: FleetObservations;
  readonly #followers: EndpointFollowers;

  constructor({ store, connections, dpe2 }: FleetEndpointsParts) {
    this.#store = store;
    this.#connections = connections;
    this.#dpe2 = dpe2;
    this.#requests = new FleetRequests({
      store,
      isHere: (endpoint) => connections.hears(endpoint),
      check: (registration, names) => void dpe2.check(registration, names),
      query: (endpoint, names, signal) => this.query(endpoint, names, signal),
    });
    const observe = async (endpoint: string, options: ObserveOptions): Promise<PropertyObservation> =>
      propertyObservation(await dpe2.observe(await this.#registered(endpoint), options));
    this.#observations = new FleetObservations({ store, observe });
    this.#followers = new EndpointFollowers({
      store,
      serverOf: (endpoint) => this.#serverOf(endpoint),
      observe: (at, endpoint, options) =>
        at === store.server ? observe(endpoint, options) : this.#observations.observe(at, endpoint, options),
      onHeardElsewhere: (endpoint) => connections.heardElsewhere(endpoint),
    });
  }

  /** Begins to take what other servers ask for. */
  async start(): Promise<void> {
    await this.#requests.start();
    await this.#observations.start();
  }

  close(): void {
    this.#requests.close();
    this.#observations.close();
  }

  /** See `DpeServer.query`. */
  async query(endpoint: string, names: readonly string[], signal?: AbortSignal): Promise<readonly SenmlRecord[]> {
    return this.#dpe2.query(await this.#registered(endpoint), names, signal);
  }

  /** See `DpeServer.observe`. */
  async observe(endpoint: string, name?: string): Promise<Observation> {
    return this.#dpe2.observe(await this.#registered(endpoint), name === undefined ? {} : { name });
  }

  /** See `DpeServer.set`. */
  async set(endpoint: string, name: string, value: SenmlValue): Promise<void> {
    await this.#dpe2.set(await this.#registered(endpoint), name, value);
  }

  /** See `DpeServer.follow`. */
  follow(endpoint: string, options: FollowOptions): AsyncGenerator<FollowStep, void, undefined> {
    return this.#followers.follow(endpoint, options);
  }

  /** See {@link FleetRequests.ask}. */
  ask(endpoint: string, names: readonly string[], signal?: AbortSignal): Promise<FleetAnswer> {
    return this.#requests.ask(endpoint, names, Date.now(), signal);
  }

  /** The endpoint is awake: it is asked what waits for it. */
  deliver(endpoint: string): Promise<void> {
    return this.#requests.deliver(endpoint, Date.now());
  }

  /** The endpoint is in another association than before, has registered, or is gone. */
  changed(endpoint: string): void {
    this.#followers.changed(endpoint);
    this.#observations.changed(endpoint);
  }

  async #registered(endpoint: string): Promise<Registration> {
    return registered(endpoint, await this.#store.registrations.ofEndpoint(endpoint, Date.now()));
  }

  /** @throws DpeError DPE_UNKNOWN_REGISTRATION. */
  async #serverOf(endpoint: string): Promise<string> {
    const device = await this.#store.registrations.device(endpoint, Date.now());
    const { dpe2 } = registered(endpoint, device?.registration);
    // What listens at an address of its own is dialled by any server.
    const isHere = dpe2.type !== "association" || this.#connections.hears(endpoint);
    return isHere ? this.#store.server : (device?.heard?.server ?? this.#store.server);
  }
}

export interface FleetEndpointsParts {
  readonly store: Store;
  readonly connections: Dpe2Connections;
  readonly dpe2: Dpe2Requests;
}

function registered(endpoint: string, registration: Registration | undefined): Registration {
  if (registration === undefined)
    throw new DpeError("DPE_UNKNOWN_REGISTRATION", `no endpoint ${endpoint} is registered`);
  return registration;
}
