import type { OptionRegistry } from "../wire/option-registry.js";
import type { EndpointOutput } from "./endpoint-output.js";
import type { DerivedTimes, EndpointLimits, TransmissionParameters } from "./parameters.js";

/** What the parts of an endpoint share. */
export interface EndpointCore {
  readonly parameters: TransmissionParameters;
  readonly times: DerivedTimes;
  readonly limits: EndpointLimits;
  readonly registry: OptionRegistry;
  random(size: number): Uint8Array;
  emit(output: EndpointOutput): void;
}
