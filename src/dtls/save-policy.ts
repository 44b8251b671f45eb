/**
 * When the state of an association must be saved (the invariants S1 and S2 of saved-association.ts), so that saving is
 * rare: sequence numbers of ours are reserved by the thousand; those of the peer are saved one by one while it is slow, as
 * a number reserved but not used is a record lost after a crash, and up to 64 ahead while it is fast.
 */
export class SavePolicy {
  sendBound: number;
  receiveFloor: number;
  #ahead = 0;
  #raisedAt: number;

  constructor(sendBound: number, receiveFloor: number, now: number) {
    this.sendBound = sendBound;
    this.receiveFloor = receiveFloor;
    this.#raisedAt = now;
  }

  /** Of an association that was not saved before. */
  static begin(nextSequenceNumber: number, newestReceived: number, now: number): SavePolicy {
    return new SavePolicy(nextSequenceNumber + SEND_RESERVE, newestReceived + 1, now);
  }

  /** Before a record of this number leaves: whether to save. */
  mustSaveToSend(sequenceNumber: number): boolean {
    if (sequenceNumber < this.sendBound) return false;
    this.sendBound = sequenceNumber + SEND_RESERVE;
    return true;
  }

  /** Before a record of this number has an effect: whether to save. */
  mustSaveToReceive(sequenceNumber: number, newest: number, now: number): boolean {
    if (sequenceNumber < this.receiveFloor) return this.tighten(newest, now);
    const isFast = now - this.#raisedAt < FAST_MS;
    this.#ahead = isFast ? Math.min(MOST_AHEAD, Math.max(1, this.#ahead * 2)) : 0;
    this.receiveFloor = sequenceNumber + 1 + this.#ahead;
    this.#raisedAt = now;
    return true;
  }

  /** Gives back numbers reserved for a peer that is slow by now: whether to save. */
  tighten(newest: number, now: number): boolean {
    if (this.#ahead === 0 || now - this.#raisedAt < FAST_MS || newest + 1 >= this.receiveFloor) return false;
    this.#ahead = 0;
    this.receiveFloor = newest + 1;
    this.#raisedAt = now;
    return true;
  }
}

const SEND_RESERVE = 1024;
const MOST_AHEAD = 64;
const FAST_MS = 1000;
