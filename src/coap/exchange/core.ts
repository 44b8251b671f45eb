import type { Allocate } from "../wire/message.js";
import type { OptionRegistry } from "../wire/option-registry.js";
import type { EndpointOutput } from "./endpoint-output.js";
import type { TokenSource } from "./token-source.js";
import type { DerivedTimes, EndpointLimits, TransmissionParameters } from "./parameters.js";

/** What the parts of an endpoint share. */
export interface EndpointCore {
  readonly parameters: TransmissionParameters;
  readonly times: DerivedTimes;
  readonly limits: EndpointLimits;
  readonly registry: OptionRegistry;
  /** Whether messages are forwarded, with what is unknown and safe in them. */
  readonly isProxy: boolean;
  random(size: number): Uint8Array;
  readonly allocate: Allocate;
  readonly nextToken: TokenSource;
  emit(output: EndpointOutput): void;
}

/** A random number in [0, 1), of 16 bits: to spread timers, not for secrets. */
export function randomFraction(core: EndpointCore): number {
  const [high = 0, low = 0] = core.random(2);
  return (high * 256 + low) / 0x1_0000;
}
