import type { ServerEvent } from "#server/index.js";

/** Lines of a log that anybody can cause: above so many of a kind in a second they are counted. */
export class StrangerLines {
  readonly #seconds = new Map<ServerEvent["type"], Second>();

  /** Whether the event is written; `onLeftOut` is told first how many of its kind were not, since one was. */
  admits(event: ServerEvent, now: number, onLeftOut: (lines: number) => void): boolean {
    if (!isOfStrangers(event)) return true;
    const before = this.#seconds.get(event.type);
    const isOver = before === undefined || now - before.startedAt >= 1000 || now < before.startedAt;
    const second = isOver ? { startedAt: now, lines: 0, leftOut: 0 } : before;
    if (second !== before) this.#seconds.set(event.type, second);
    if (isOver && before !== undefined && before.leftOut > 0) onLeftOut(before.leftOut);
    second.lines += 1;
    if (second.lines <= MAX_LINES_PER_SECOND) return true;
    second.leftOut += 1;
    return false;
  }
}

interface Second {
  readonly startedAt: number;
  lines: number;
  leftOut: number;
}

function isOfStrangers(event: ServerEvent): boolean {
  if (event.type === "authentication-error") return event.error !== "credentials-required";
  return event.type === "handshake-failed" || (event.type === "client-error" && event.subscriber === undefined);
}

const MAX_LINES_PER_SECOND = 20;
