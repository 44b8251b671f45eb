import type { CoapClient } from "#api/index.js";

/** Asks a server whether it lives (RFC 7252 §4.3), each time that nothing was heard of it for so long. */
export class KeepAlive {
  /** Rejected with why the server does not answer; never fulfilled. */
  readonly failed: Promise<never>;
  readonly #client: CoapClient;
  readonly #uri: string;
  readonly #seconds: number;
  readonly #timeoutMs: number;
  #fail: (error: unknown) => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  /** 0 seconds: it is never asked. `timeoutMs` is for its answer. */
  constructor(client: CoapClient, uri: string, seconds: number, timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#client = client;
    this.#uri = uri;
    this.#seconds = seconds;
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => undefined);
    this.heard();
  }

  /** Something came of the server. */
  heard(): void {
    clearTimeout(this.#timer);
    if (this.#seconds > 0 && !this.#isStopped) this.#timer = setTimeout(() => void this.#ping(), this.#seconds * 1000);
  }

  /** What is under way fails when the client closes, and matters to nobody. */
  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #ping(): Promise<void> {
    try {
      await this.#client.ping(this.#uri, { timeoutMs: this.#timeoutMs });
      this.heard();
    } catch (error) {
      if (!this.#isStopped) this.#fail(error);
    }
  }
}
