import { type ConditionalAttributes, needsNumber } from "./conditional-attributes.js";

/**
 * Decides when one observer is told of one resource, by its conditional attributes. No I/O: `now` is absolute ms. The state
 * that its registration was answered with counts as told.
 *
 * | on | told |
 * |---|---|
 * | a change that meets the conditions, pmin past | now |
 * | a change that meets the conditions, pmin not past | at pmin, if the newest value still meets them |
 * | pmax past | now, whatever the value |
 */
export class NotificationGate {
  readonly #attributes: ConditionalAttributes;
  #told: number | undefined;
  #current: number | undefined;
  #toldAt: number;
  #isHeld = false;

  /** `value` is that of a resource with one number, which `gt`, `lt` and `st` need. */
  constructor(attributes: ConditionalAttributes, value: number | undefined, now: number) {
    this.#attributes = attributes;
    this.#told = value;
    this.#current = value;
    this.#toldAt = now;
  }

  /** The resource changed. Returns whether to tell it now. */
  change(value: number | undefined, now: number): boolean {
    this.#current = value;
    this.#isHeld = this.#isMet();
    return this.#isHeld && now >= this.#earliestAt ? this.#tell(now) : false;
  }

  /** When {@link handleTimeout} is to be called, absolute ms. */
  nextTimeout(): number | undefined {
    const { pmaxSeconds } = this.#attributes;
    const latestAt = pmaxSeconds === undefined ? Infinity : this.#toldAt + pmaxSeconds * 1000;
    const at = this.#isHeld ? Math.min(this.#earliestAt, latestAt) : latestAt;
    return at === Infinity ? undefined : at;
  }

  /** Returns whether to tell the present state now. */
  handleTimeout(now: number): boolean {
    const at = this.nextTimeout();
    return at !== undefined && now >= at ? this.#tell(now) : false;
  }

  get #earliestAt(): number {
    return this.#toldAt + (this.#attributes.pminSeconds ?? 0) * 1000;
  }

  #tell(now: number): boolean {
    this.#told = this.#current;
    this.#toldAt = now;
    this.#isHeld = false;
    return true;
  }

  #isMet(): boolean {
    if (!needsNumber(this.#attributes)) return true;
    const { greaterThan, lessThan, step } = this.#attributes;
    const told = this.#told;
    const current = this.#current;
    if (told === undefined || current === undefined) return told !== current;
    return (
      (greaterThan !== undefined && told > greaterThan !== current > greaterThan) ||
      (lessThan !== undefined && told < lessThan !== current < lessThan) ||
      (step !== undefined && Math.abs(current - told) >= step)
    );
  }
}
