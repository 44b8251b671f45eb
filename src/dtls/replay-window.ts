/** The sliding window of RFC 6347 §4.1.2.6: which of the 64 newest sequence numbers of an epoch were seen. */
export class ReplayWindow {
  #newest = -1;
  /** Bit n of `low ‖ high` stands for newest − n. */
  #low = 0;
  #high = 0;

  /** Whether a record of this number may still be taken; asks only. */
  isFresh(sequenceNumber: number): boolean {
    const age = this.#newest - sequenceNumber;
    if (age < 0) return true;
    if (age >= WINDOW_SIZE) return false;
    return ((age < 32 ? this.#low >>> age : this.#high >>> (age - 32)) & 1) === 0;
  }

  /** −1 before any. */
  get newest(): number {
    return this.#newest;
  }

  /** Takes nothing below `floor` any more. */
  rejectBelow(floor: number): void {
    this.#newest = floor - 1;
    this.#low = -1;
    this.#high = -1;
  }

  /** Whether a number is beyond all that were seen. */
  isNewest(sequenceNumber: number): boolean {
    return sequenceNumber > this.#newest;
  }

  /** To be called only once the record's MAC has verified. */
  mark(sequenceNumber: number): void {
    const age = this.#newest - sequenceNumber;
    if (age >= 0) {
      if (age < 32) this.#low |= 1 << age;
      else this.#high |= 1 << (age - 32);
      return;
    }
    this.#shift(-age);
    this.#newest = sequenceNumber;
    this.#low |= 1;
  }

  #shift(by: number): void {
    if (by >= WINDOW_SIZE) {
      this.#low = 0;
      this.#high = 0;
    } else if (by >= 32) {
      this.#high = by === 32 ? this.#low : this.#low << (by - 32);
      this.#low = 0;
    } else {
      this.#high = (this.#high << by) | (this.#low >>> (32 - by));
      this.#low <<= by;
    }
  }
}

export const WINDOW_SIZE = 64;
