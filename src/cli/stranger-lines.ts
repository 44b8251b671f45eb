/** Lines of a log that anybody can cause: above so many of a kind in a second they are counted. */
export class StrangerLines<Event extends { readonly type: string }> {
  readonly #seconds = new Map<Event["type"], Second>();
  readonly #maxPerSecond: number;
  readonly #isOfStrangers: (event: Event) => boolean;

  constructor(maxPerSecond: number, isOfStrangers: (event: Event) => boolean) {
    this.#maxPerSecond = maxPerSecond;
    this.#isOfStrangers = isOfStrangers;
  }

  /** Whether the event is written; `onLeftOut` is told first how many of its kind were not, since one was. */
  admits(event: Event, now: number, onLeftOut: (lines: number) => void): boolean {
    if (!this.#isOfStrangers(event)) return true;
    const before = this.#seconds.get(event.type);
    const isOver = before === undefined || now - before.startedAt >= 1000 || now < before.startedAt;
    const second = isOver ? { startedAt: now, lines: 0, leftOut: 0 } : before;
    if (second !== before) this.#seconds.set(event.type, second);
    if (isOver && before !== undefined && before.leftOut > 0) onLeftOut(before.leftOut);
    second.lines += 1;
    if (second.lines <= this.#maxPerSecond) return true;
    second.leftOut += 1;
    return false;
  }
}

interface Second {
  readonly startedAt: number;
  lines: number;
  leftOut: number;
}
