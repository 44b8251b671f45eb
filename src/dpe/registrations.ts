import { DpeError } from "./errors.js";

/**
 * The registrations of one server, by id and by endpoint name. No I/O and no clock of its own.
 *
 * Invariants:
 * 1. An endpoint name has at most one registration.
 * 2. A name belongs to the subscriber that registered it, until that registration ends.
 * 3. An expired registration is never returned, whether or not it was swept.
 * 4. No more than `maxRegistrations` are kept.
 */
export class Registrations {
  readonly #limits: RegistrationLimits;
  readonly #newId: () => string;
  readonly #byId = new Map<string, Registration>();
  readonly #byEndpoint = new Map<string, Registration>();

  /** `newId` gives an unguessable id on each call; it becomes a Uri-Path segment. */
  constructor(newId: () => string, limits: Partial<RegistrationLimits> = {}) {
    this.#newId = newId;
    this.#limits = { ...DEFAULT_REGISTRATION_LIMITS, ...limits };
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Those that have not expired at `now`, in order of registration. */
  list(now: number): readonly Registration[] {
    return [...this.#byId.values()].filter((registration) => registration.expiresAt > now);
  }

  ofEndpoint(endpoint: string, now: number): Registration | undefined {
    const registration = this.#byEndpoint.get(endpoint);
    return registration !== undefined && registration.expiresAt > now ? registration : undefined;
  }

  /**
   * The registration `id` of that subscriber.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, also when it is another subscriber's: an id tells nothing to others.
   */
  owned(id: string, subscriber: string | undefined, now: number): Registration {
    const registration = this.#byId.get(id);
    if (registration === undefined || registration.expiresAt <= now || registration.subscriber !== subscriber) {
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", "there is no such registration; register anew");
    }
    return registration;
  }

  /**
   * Registers an endpoint, in place of its own earlier registration.
   *
   * @throws DpeError DPE_NAME_TAKEN when the name is another subscriber's, DPE_LIFETIME_OUT_OF_RANGE,
   * DPE_BAD_ENDPOINT_NAME, DPE_TOO_MANY_REGISTRATIONS.
   */
  register(request: RegistrationRequest, now: number): RegistrationChange {
    checkEndpointName(request.endpoint);
    const lifetimeMs = this.#lifetimeMs(request.lifetimeSeconds);
    const replaced = this.ofEndpoint(request.endpoint, now);
    if (replaced !== undefined && replaced.subscriber !== request.subscriber) {
      throw new DpeError("DPE_NAME_TAKEN", `endpoint ${request.endpoint} is registered by another subscriber`);
    }
    if (replaced === undefined && this.#byId.size >= this.#limits.maxRegistrations) {
      this.sweep(now);
      if (this.#byId.size >= this.#limits.maxRegistrations) {
        throw new DpeError("DPE_TOO_MANY_REGISTRATIONS", `${this.#byId.size} endpoints are registered already`);
      }
    }
    const before = this.#byEndpoint.get(request.endpoint);
    if (before !== undefined) this.#forget(before);
    const registration: Registration = {
      id: this.#newId(),
      endpoint: request.endpoint,
      subscriber: request.subscriber,
      dpe2: request.dpe2,
      isQueueMode: request.isQueueMode,
      registeredAt: now,
      lastHeardAt: now,
      lifetimeMs,
      expiresAt: now + lifetimeMs,
    };
    this.#keep(registration);
    return { registration, replaced };
  }

  /**
   * Extends a registration, with a new lifetime or DPE-2 address where given.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_LIFETIME_OUT_OF_RANGE.
   */
  refresh(id: string, subscriber: string | undefined, change: RegistrationUpdate, now: number): Registration {
    const registration = this.owned(id, subscriber, now);
    const lifetimeMs =
      change.lifetimeSeconds === undefined ? registration.lifetimeMs : this.#lifetimeMs(change.lifetimeSeconds);
    const refreshed: Registration = {
      ...registration,
      dpe2: change.dpe2 ?? registration.dpe2,
      lastHeardAt: now,
      lifetimeMs,
      expiresAt: now + lifetimeMs,
    };
    this.#keep(refreshed);
    return refreshed;
  }

  /** Notes that the endpoint was heard, without extending its lifetime. */
  heard(id: string, subscriber: string | undefined, now: number): Registration {
    const registration = { ...this.owned(id, subscriber, now), lastHeardAt: now };
    this.#keep(registration);
    return registration;
  }

  /** @throws DpeError DPE_UNKNOWN_REGISTRATION. */
  deregister(id: string, subscriber: string | undefined, now: number): Registration {
    const registration = this.owned(id, subscriber, now);
    this.#forget(registration);
    return registration;
  }

  /** Forgets what has expired at `now` and returns it. */
  sweep(now: number): readonly Registration[] {
    const expired = [...this.#byId.values()].filter((registration) => registration.expiresAt <= now);
    for (const registration of expired) this.#forget(registration);
    return expired;
  }

  #lifetimeMs(seconds: number): number {
    const { minLifetimeSeconds, maxLifetimeSeconds } = this.#limits;
    if (!(seconds >= minLifetimeSeconds && seconds <= maxLifetimeSeconds)) {
      throw new DpeError(
        "DPE_LIFETIME_OUT_OF_RANGE",
        `a lifetime is ${minLifetimeSeconds} to ${maxLifetimeSeconds} seconds, not ${seconds}`,
      );
    }
    return seconds * 1000;
  }

  #keep(registration: Registration): void {
    this.#byId.set(registration.id, registration);
    this.#byEndpoint.set(registration.endpoint, registration);
  }

  #forget(registration: Registration): void {
    this.#byId.delete(registration.id);
    if (this.#byEndpoint.get(registration.endpoint)?.id === registration.id) {
      this.#byEndpoint.delete(registration.endpoint);
    }
  }
}

/** One registered endpoint. Times are ms on the server's clock. */
export interface Registration {
  readonly id: string;
  readonly endpoint: string;
  /** The subscriber that owns the name; undefined where DPE-1 demands no client authentication. */
  readonly subscriber: string | undefined;
  readonly dpe2: Dpe2Binding;
  readonly isQueueMode: boolean;
  readonly registeredAt: number;
  readonly lastHeardAt: number;
  readonly lifetimeMs: number;
  readonly expiresAt: number;
}

/** Where DPE-2 reaches the client: over the association that carries DPE-1, or at an address of its own. */
export type Dpe2Binding = { readonly type: "association" } | { readonly type: "uri"; readonly uri: string };

export interface RegistrationRequest {
  readonly endpoint: string;
  readonly subscriber: string | undefined;
  readonly lifetimeSeconds: number;
  readonly dpe2: Dpe2Binding;
  readonly isQueueMode: boolean;
}

export interface RegistrationUpdate {
  readonly lifetimeSeconds?: number | undefined;
  readonly dpe2?: Dpe2Binding | undefined;
}

export interface RegistrationChange {
  readonly registration: Registration;
  readonly replaced: Registration | undefined;
}

export interface RegistrationLimits {
  /** Default 100,000; at the limit a new name is refused with 5.03, known names go on. */
  readonly maxRegistrations: number;
  /** Default 10 s; less makes a device spend its battery on refreshing. */
  readonly minLifetimeSeconds: number;
  /** Default 30 days; more keeps names of devices that are long gone. */
  readonly maxLifetimeSeconds: number;
}

export const DEFAULT_REGISTRATION_LIMITS: RegistrationLimits = {
  maxRegistrations: 100_000,
  minLifetimeSeconds: 10,
  maxLifetimeSeconds: 30 * 24 * 3600,
};

/** The lifetime where `lt` is absent. */
export const DEFAULT_LIFETIME_SECONDS = 3600;

const MAX_ENDPOINT_NAME_BYTES = 63;

function checkEndpointName(name: string): void {
  // RFC 9176 §5: at most 63 bytes; here letters, digits and - . _ : only, so that a name is safe in logs and file names.
  if (!/^[A-Za-z0-9][A-Za-z0-9._:-]*$/.test(name) || name.length > MAX_ENDPOINT_NAME_BYTES) {
    throw new DpeError(
      "DPE_BAD_ENDPOINT_NAME",
      `an endpoint name is 1 to ${MAX_ENDPOINT_NAME_BYTES} letters, digits and . _ : - and starts with a letter or digit`,
    );
  }
}
