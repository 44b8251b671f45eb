import { isSuccessCode, type ResponseMessage } from "#coap/index.js";
import type { ObservableResponse } from "./coap-endpoint-options.js";

/** An observation as the handler that answered keeps it, from before the answer goes out to its end. There may be many. */
export class HandlerObservation {
  readonly #onFault: (error: unknown) => void;
  #stop: (() => void) | undefined;
  /** Sends the newest state that was told before the answer was out. */
  #early: (() => void) | undefined;
  #isAnswered = false;

  constructor(onFault: (error: unknown) => void) {
    this.#onFault = onFault;
  }

  /** False where the handler throws, which is told: RFC 7641 §4.1 has the request answered as a plain one then. */
  begin(observe: NonNullable<ObservableResponse["observe"]>, send: (state: ResponseMessage) => void): boolean {
    let isOver = false;
    try {
      // Nothing but this holds what sends: a handler that never tells of a state drops it.
      this.#stop = observe((state) => {
        if (this.#isAnswered) return send(state);
        if (!isOver) this.#early = () => send(state);
        isOver ||= !isSuccessCode(state.code);
      });
      return true;
    } catch (error) {
      this.#onFault(error);
      return false;
    }
  }

  /** The answer has gone out. */
  answered(): void {
    this.#isAnswered = true;
    const early = this.#early;
    this.#early = undefined;
    this.#guarded(early);
  }

  /** It is called amid the work on all peers, which a throw would end. */
  stop(): void {
    this.#guarded(this.#stop);
  }

  #guarded(action: (() => void) | undefined): void {
    try {
      action?.();
    } catch (error) {
      this.#onFault(error);
    }
  }
}
