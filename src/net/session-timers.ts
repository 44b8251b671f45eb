import { TimerHeap } from "#coap/index.js";
import type { DtlsSession } from "./dtls-session.js";
import { monotonicNow } from "./udp-socket.js";

/**
 * The times at which sessions of an endpoint are to act, by one timer of Node's: to set and clear one takes 3 µs, and each
 * handshake needs one that it seldom reaches. It does not keep the process alive; the socket does.
 */
export class SessionTimers {
  readonly #waiting = new TimerHeap<DtlsSession>();
  #timer: NodeJS.Timeout | undefined;
  #firesAt = Infinity;

  /** `at`: undefined for none. One that is early looks again: in a handshake the time moves on with each message. */
  set(session: DtlsSession, at: number | undefined): void {
    if (at === undefined) {
      this.#waiting.cancel(session);
      return;
    }
    if (session.timer !== undefined && session.timer.at <= at) return;
    this.#waiting.schedule(session, at);
    this.#fireBy(at);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #fireBy(at: number): void {
    if (at >= this.#firesAt) return;
    clearTimeout(this.#timer);
    this.#firesAt = at;
    this.#timer = setTimeout(this.#fire, Math.max(0, at - monotonicNow())).unref();
  }

  readonly #fire = (): void => {
    this.#firesAt = Infinity;
    const now = monotonicNow();
    const due: DtlsSession[] = [];
    for (let next = this.#waiting.take(now); next !== undefined; next = this.#waiting.take(now)) due.push(next);
    for (const session of due) session.handleTimeout(now);
    const at = this.#waiting.next();
    if (at !== undefined) this.#fireBy(at);
  };
}
