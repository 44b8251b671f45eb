import { isSuccessCode, type ResponseMessage } from "#coap/index.js";
import type { ObservableResponse } from "./coap-endpoint-options.js";

/** An observation as the handler that answered keeps it, from before the answer goes out to its end. */
export class HandlerObservation {
  readonly #surroundings: HandlerObservationSurroundings;
  readonly #handlersStop: () => void;
  /** The newest state that was told before the answer was out. */
  #early: ResponseMessage | undefined;
  #isAnswered = false;

  private constructor(observe: Observe, surroundings: HandlerObservationSurroundings) {
    this.#surroundings = surroundings;
    this.#handlersStop = observe((state) => this.#notify(state));
  }

  /** Undefined where the handler throws, which is told: RFC 7641 §4.1 has the request answered as a plain one then. */
  static begin(observe: Observe, surroundings: HandlerObservationSurroundings): HandlerObservation | undefined {
    try {
      return new HandlerObservation(observe, surroundings);
    } catch (error) {
      surroundings.onFault(error);
      return undefined;
    }
  }

  /** The answer has gone out. */
  answered(): void {
    this.#isAnswered = true;
    try {
      if (this.#early !== undefined) this.#surroundings.send(this.#early);
    } catch (error) {
      this.#surroundings.onFault(error);
    }
    this.#early = undefined;
  }

  /** It is called amid the work on all peers, which a throw would end. */
  stop(): void {
    try {
      this.#handlersStop();
    } catch (error) {
      this.#surroundings.onFault(error);
    }
  }

  #notify(state: ResponseMessage): void {
    if (this.#isAnswered) this.#surroundings.send(state);
    // An error was its end.
    else if (this.#early === undefined || isSuccessCode(this.#early.code)) this.#early = state;
  }
}

export interface HandlerObservationSurroundings {
  send(this: void, state: ResponseMessage): void;
  onFault(this: void, error: unknown): void;
}

type Observe = NonNullable<ObservableResponse["observe"]>;
