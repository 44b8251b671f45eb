/**
 * A binary min-heap of timers. An item stands in it once at most and knows its place, so that a timer is moved or
 * cancelled in place: what is cancelled long before its time, as nearly all timers of CoAP are, leaves nothing behind.
 */
export class TimerHeap<T extends Timed> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** Sets the item's timer, or moves it. `at` is absolute ms. */
  schedule(item: T, at: number): void {
    if (item.timer === undefined) {
      item.timer = { at, index: this.#items.length };
      this.#items.push(item);
      this.#up(item, item.timer);
      return;
    }
    item.timer.at = at;
    this.#up(item, item.timer);
    this.#down(item, item.timer);
  }

  cancel(item: T): void {
    const { timer } = item;
    if (timer === undefined) return;
    item.timer = undefined;
    const last = this.#items.pop();
    if (last === undefined || last === item || last.timer === undefined) return;
    this.#place(last, last.timer, timer.index);
    this.#up(last, last.timer);
    this.#down(last, last.timer);
  }

  /** The time of the earliest timer. */
  next(): number | undefined {
    return this.#items[0]?.timer?.at;
  }

  /** Takes the earliest item that is due at `now`. */
  take(now: number): T | undefined {
    const first = this.#items[0];
    if (first?.timer === undefined || first.timer.at > now) return undefined;
    this.cancel(first);
    return first;
  }

  #up(item: T, timer: Timer): void {
    while (timer.index > 0) {
      const parent = this.#items[(timer.index - 1) >> 1];
      if (parent?.timer === undefined || parent.timer.at <= timer.at) return;
      this.#swap(item, timer, parent, parent.timer);
    }
  }

  #down(item: T, timer: Timer): void {
    for (;;) {
      const left = this.#items[timer.index * 2 + 1];
      const right = this.#items[timer.index * 2 + 2];
      const child = (right?.timer?.at ?? Infinity) < (left?.timer?.at ?? Infinity) ? right : left;
      if (child?.timer === undefined || child.timer.at >= timer.at) return;
      this.#swap(item, timer, child, child.timer);
    }
  }

  #swap(a: T, timerOfA: Timer, b: T, timerOfB: Timer): void {
    const { index } = timerOfA;
    this.#place(a, timerOfA, timerOfB.index);
    this.#place(b, timerOfB, index);
  }

  #place(item: T, timer: Timer, index: number): void {
    timer.index = index;
    this.#items[index] = item;
  }
}

/** What may have a timer; it is the heap's to write. */
export interface Timed {
  timer: Timer | undefined;
}

export interface Timer {
  /** Absolute ms. */
  at: number;
  index: number;
}
