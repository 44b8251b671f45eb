/** A body that is read as it comes: of a request or of a response. A web ReadableStream of bytes is one. */
export type StreamedBody = AsyncIterable<Uint8Array>;

/** Cuts a streamed body into pieces of the sizes that are asked for. It holds one chunk of its source at most. */
export class BodyReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = NOTHING;
  #isEnded = false;

  constructor(body: StreamedBody) {
    this.#source = body[Symbol.asyncIterator]();
  }

  /** The next `bytes` bytes: fewer, or none, only where the body ends, and whether it does. */
  async take(bytes: number): Promise<{ readonly piece: Uint8Array; readonly isLast: boolean }> {
    // One byte more tells whether the body ends here.
    while (this.#rest.length <= bytes && !this.#isEnded) {
      const next = await this.#source.next();
      if (next.done === true) this.#isEnded = true;
      else this.#rest = this.#rest.length === 0 ? next.value : Buffer.concat([this.#rest, next.value]);
    }
    const piece = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(piece.length);
    return { piece, isLast: this.#isEnded && this.#rest.length === 0 };
  }

  /** Puts a piece back in front. */
  giveBack(piece: Uint8Array): void {
    this.#rest = Buffer.concat([piece, this.#rest]);
  }

  /** The source is not read any more. */
  async cancel(): Promise<void> {
    this.#rest = NOTHING;
    if (this.#isEnded) return;
    this.#isEnded = true;
    await this.#source.return?.();
  }
}

const NOTHING: Uint8Array = new Uint8Array(0);
