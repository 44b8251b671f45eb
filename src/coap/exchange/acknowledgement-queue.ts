import type { IncomingRequest } from "./incoming-request.js";

/**
 * Confirmable requests that the application has not answered yet, in the order in which their empty Acknowledgement is
 * due. Most are answered at once: those are never queued at all.
 */
export class AcknowledgementQueue {
  readonly #delayMs: number;
  /** Handed out last: not looked at yet. */
  #latest: IncomingRequest | undefined;
  readonly #waiting: IncomingRequest[] = [];
  #first = 0;

  constructor(delayMs: number) {
    this.#delayMs = delayMs;
  }

  add(incoming: IncomingRequest): void {
    this.#lookAtLatest();
    this.#latest = incoming;
  }

  /** When the first one is due, absolute ms. */
  next(): number | undefined {
    const first = this.#head();
    return first === undefined ? undefined : first.receivedAt + this.#delayMs;
  }

  /** Takes the first one that is due at `now`. */
  take(now: number): IncomingRequest | undefined {
    const first = this.#head();
    if (first === undefined || first.receivedAt + this.#delayMs > now) return undefined;
    this.#first++;
    return first;
  }

  #head(): IncomingRequest | undefined {
    this.#lookAtLatest();
    if (this.#waiting.length === 0) return undefined;
    for (let head = this.#waiting[this.#first]; head !== undefined; head = this.#waiting[++this.#first]) {
      if (!isUnanswered(head)) continue;
      if (this.#first > COMPACTION_LENGTH && this.#first * 2 > this.#waiting.length) {
        this.#waiting.splice(0, this.#first);
        this.#first = 0;
      }
      return head;
    }
    this.#waiting.length = 0;
    this.#first = 0;
    return undefined;
  }

  #lookAtLatest(): void {
    const latest = this.#latest;
    if (latest === undefined) return;
    this.#latest = undefined;
    if (isUnanswered(latest)) this.#waiting.push(latest);
  }
}

function isUnanswered(incoming: IncomingRequest): boolean {
  return incoming.progress === "received" && !incoming.peer.isClosed;
}

const COMPACTION_LENGTH = 256;
