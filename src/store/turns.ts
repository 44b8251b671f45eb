/** Work on one thing at a time: what comes for it meanwhile waits, in order. Other things do not wait for it. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Fulfilled or rejected as `work` is, which begins when what came before for `name` has ended, however it ended. */
  take<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    const before = this.#last.get(name);
    const turn = before === undefined ? work() : before.then(work, work);
    this.#last.set(name, turn);
    const end = (): void => {
      if (this.#last.get(name) === turn) this.#last.delete(name);
    };
    turn.then(end, end);
    return turn;
  }
}
