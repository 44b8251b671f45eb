/**
 * What the peers of all TCP and TLS connections make an endpoint keep together: messages that are not whole yet, and what they
 * do not take. Beyond the bound whoever has most of it is cut off, so that a crowd of those that do not read harms none of
 * those that do.
 */
export class StreamBudget {
  readonly #maxBytes: number;
  readonly #held = new Map<Holder, number>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** From now on this one has so many bytes. */
  hold(holder: Holder, bytes: number): void {
    this.#bytes += bytes - (this.#held.get(holder) ?? 0);
    if (bytes > 0) this.#held.set(holder, bytes);
    else this.#held.delete(holder);
    while (this.#bytes > this.#maxBytes) {
      const [first, ...others] = this.#held;
      if (first === undefined) return;
      const [greatest] = others.reduce((most, one) => (one[1] > most[1] ? one : most), first);
      this.hold(greatest, 0);
      greatest.cutOff();
    }
  }
}

/** Whoever makes us keep bytes. */
export interface Holder {
  cutOff(): void;
}
