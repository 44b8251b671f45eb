import type { CoapError } from "#coap/index.js";
import type { StreamedBody } from "./body-reader.js";

/** A request's body on its way from the blocks of a peer to a handler: one piece at a time, the next when it was taken. */
export class BodyPipe implements StreamedBody {
  #piece: Uint8Array | undefined;
  #isEnded = false;
  #isAbandoned = false;
  #error: Error | undefined;
  #taken: (() => void) | undefined;
  #wake: (() => void) | undefined;

  /** Fulfilled when the handler asks for what follows, or wants nothing more. */
  write(piece: Uint8Array): Promise<void> {
    if (this.#isAbandoned || piece.length === 0) return Promise.resolve();
    this.#piece = piece;
    return new Promise((resolve) => {
      this.#taken = resolve;
      this.#wake?.();
    });
  }

  /** Whoever writes waits no longer; the piece is still to be had. */
  letWriterGo(): void {
    const taken = this.#taken;
    this.#taken = undefined;
    taken?.();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake?.();
  }

  /** The peer does not go on: the handler's iteration fails with COAP_PEER_CLOSED or COAP_TIMEOUT. */
  fail(error: CoapError): void {
    if (this.#isEnded) return;
    this.#error = error;
    this.#isEnded = true;
    this.#release();
    this.#wake?.();
  }

  /** What is still to come goes nowhere: the handler has its answer. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#release();
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return {
      next: () => this.#next(),
      return: () => {
        this.abandon();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    // The piece given before has been handled when the next one is asked for.
    this.#release();
    while (this.#piece === undefined && !this.#isEnded)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    this.#wake = undefined;
    if (this.#error !== undefined) throw this.#error;
    const piece = this.#piece;
    if (piece === undefined) return { done: true, value: undefined };
    this.#piece = undefined;
    return { done: false, value: piece };
  }

  #release(): void {
    if (this.#isAbandoned) this.#piece = undefined;
    if (this.#piece !== undefined && !this.#isAbandoned && this.#error === undefined) return;
    this.letWriterGo();
  }
}
