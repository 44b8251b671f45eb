import type { FastifyReply } from "fastify";

/** One client of server-sent events. A client that does not read is dropped. */
export class EventStream {
  readonly #reply: FastifyReply;
  readonly #beat: NodeJS.Timeout;

  /** `onClose` is called once, however it ends. */
  constructor(reply: FastifyReply, onClose: () => void) {
    this.#reply = reply;
    reply.hijack();
    reply.raw.writeHead(200, {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
    });
    reply.raw.write(": begins\n\n");
    this.#beat = setInterval(() => this.#write(": still here\n\n"), BEAT_MS);
    const close = (): void => {
      clearInterval(this.#beat);
      onClose();
    };
    // A client that went away while its stream was prepared has closed already.
    if (reply.raw.destroyed) setImmediate(close);
    else reply.raw.once("close", close);
  }

  get isClosed(): boolean {
    return this.#reply.raw.destroyed || this.#reply.raw.writableEnded;
  }

  /** With an `id` the client names it when it comes back (Last-Event-ID). */
  send(event: string, data: object, id?: number): void {
    this.#write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  end(): void {
    if (!this.isClosed) this.#reply.raw.end();
  }

  #write(text: string): void {
    if (this.isClosed) return;
    if (this.#reply.raw.writableLength > MAX_BUFFERED_BYTES) this.#reply.raw.destroy();
    else this.#reply.raw.write(text);
  }
}

const BEAT_MS = 15_000;
const MAX_BUFFERED_BYTES = 1024 * 1024;
