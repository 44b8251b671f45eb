/** What a link does to datagrams, in each direction alike. Probabilities are 0 to 1, for each datagram. */
export interface LinkConditions {
  readonly loss: number;
  readonly duplication: number;
  /** Probability of one flipped bit. */
  readonly corruption: number;
  /** Probability of a datagram that is late by up to four times delay and jitter, so that later ones pass it. */
  readonly reordering: number;
  /** Ms. */
  readonly delay: number;
  /** Up to as many ms more, evenly. */
  readonly jitter: number;
  /** Longer datagrams are dropped, bytes. */
  readonly mtu: number;
  /** Nothing passes at all. */
  readonly isCut: boolean;
}

export const PERFECT_LINK: LinkConditions = {
  loss: 0,
  duplication: 0,
  corruption: 0,
  reordering: 0,
  delay: 0,
  jitter: 0,
  mtu: 65_535,
  isCut: false,
};

/** What changes at a time after the start; `rebind` gives every device a new address, as a NAT does after silence. */
export interface LinkChange {
  readonly atMs: number;
  readonly conditions: Partial<LinkConditions>;
  readonly rebind: boolean;
}
