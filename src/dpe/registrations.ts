import { DpeError } from "./errors.js";

/** One registered endpoint. Times are ms since 1970. */
export interface Registration {
  readonly id: string;
  readonly endpoint: string;
  /** The subscriber that owns the name; undefined where DPE-1 demands no client authentication. */
  readonly subscriber: string | undefined;
  readonly dpe2: Dpe2Binding;
  readonly isQueueMode: boolean;
  readonly registeredAt: number;
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

/** @throws DpeError DPE_BAD_ENDPOINT_NAME. */
export function checkEndpointName(name: string): void {
  // RFC 9176 §5: at most 63 bytes; here letters, digits and - . _ : only, so that a name is safe in logs and file names.
  if (!/^[A-Za-z0-9][A-Za-z0-9._:-]*$/.test(name) || name.length > MAX_ENDPOINT_NAME_BYTES) {
    throw new DpeError(
      "DPE_BAD_ENDPOINT_NAME",
      `an endpoint name is 1 to ${MAX_ENDPOINT_NAME_BYTES} letters, digits and . _ : - and starts with a letter or digit`,
    );
  }
}
