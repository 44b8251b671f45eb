/**
 * A signal of its own that another one aborts too, until it is released. Other than with AbortSignal.any, nothing stays at a
 * signal that outlives many requests.
 */
export class LinkedSignal {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #abort = (): void => this.#controller.abort(this.#outer?.reason);

  constructor(outer: AbortSignal | undefined) {
    this.#outer = outer;
    if (outer?.aborted === true) this.#abort();
    else outer?.addEventListener("abort", this.#abort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason?: unknown): void {
    this.#controller.abort(reason);
    this.release();
  }

  /** The outer signal means nothing to it any more. */
  release(): void {
    this.#outer?.removeEventListener("abort", this.#abort);
  }
}
