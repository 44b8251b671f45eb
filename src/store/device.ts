import type { ConnectionLevel, Registration } from "#dpe/index.js";

/** What is kept of one endpoint. Times are ms since 1970. */
export interface Device {
  readonly endpoint: string;
  /** The subscriber that owns the name; undefined where DPE-1 demands no client authentication. */
  readonly subscriber: string | undefined;
  readonly firstRegisteredAt: number;
  /** Undefined once it has ended. */
  readonly registration: Registration | undefined;
  readonly ended: { readonly at: number; readonly cause: EndCause } | undefined;
  /** How it registered last. */
  readonly security: DeviceSecurity | undefined;
  readonly heard: HeardRow | undefined;
  /** Reports that should have come since it was heard last, by the interval it declared. */
  readonly overdue: number;
}

export type EndCause = "deregistered" | "expired";

/** What protects and authenticates each interface of a device. */
export interface DeviceSecurity {
  readonly dpe1: InterfaceSecurity;
  readonly dpe2: InterfaceSecurity;
  /** The address and port that it came from. */
  readonly address: string;
}

export interface InterfaceSecurity {
  readonly connection: ConnectionLevel;
  /** Who the client was found to be by: certificate, psk, digest, none and so on. */
  readonly authentication: string;
  readonly cipherSuite?: string;
}

/** When and by which server a device was heard. */
export interface HeardRow {
  readonly at: number;
  /** The id of the server. */
  readonly server: string;
  /** The shortest interval that its last report declared (SenML `ut`). */
  readonly intervalSeconds?: number;
  /** Reports that did not come in time since it is known. */
  readonly missed: number;
}

/** At rest. Either `registration` or `ended` is there. */
export interface DeviceRow {
  readonly endpoint: string;
  readonly subscriber?: string;
  readonly firstRegisteredAt: number;
  readonly registration?: Omit<Registration, "endpoint" | "subscriber">;
  readonly ended?: { readonly at: number; readonly cause: EndCause; readonly forgetAt: number };
  readonly security?: DeviceSecurity;
}
