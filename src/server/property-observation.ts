import type { Observation } from "#net/index.js";
import type { SenmlRecord } from "#senml/index.js";
import { recordsOf } from "./dpe2-requests.js";

/**
 * An observation at an endpoint, by way of whichever server has it: the first state, then each newer one as it is iterated,
 * which throws what ended it; {@link EndpointChanged} where it is to be observed anew at once.
 */
export interface PropertyObservation extends AsyncIterable<readonly SenmlRecord[]> {
  readonly first: readonly SenmlRecord[];
  cancel(): void;
}

/** The endpoint is in another association than before, has registered, or is gone. */
export class EndpointChanged extends Error {
  override readonly name = "EndpointChanged";
}

/** @throws DpeError DPE_BAD_REQUEST where the first response is an error; SenmlError. */
export function propertyObservation(observation: Observation): PropertyObservation {
  try {
    return {
      first: recordsOf(observation.first),
      cancel: () => observation.cancel(),
      [Symbol.asyncIterator]: async function* (): AsyncGenerator<readonly SenmlRecord[], void, undefined> {
        for await (const notification of observation) yield recordsOf(notification);
      },
    };
  } catch (error) {
    observation.cancel();
    throw error;
  }
}
