import type { AuthErrorName } from "#dpe/index.js";

/**
 * The decision on a request that has to do with pairing, before any other: an association that a code opened may pair and
 * nothing else, and nobody else may pair. Undefined: it has nothing to do with pairing.
 */
export function decideOnPairing(offer: PairingOffer): PairingDecision | undefined {
  if (!offer.isPairingAssociation) {
    return offer.asksToPair
      ? { type: "refuse", rule: "dpe1.pairing: only over an association that a code opened", error: "not-authorized" }
      : undefined;
  }
  if (!offer.isEphemeral)
    return {
      type: "refuse",
      rule: "dpe1.pairing: only by ECDHE_PSK, which nobody can guess later",
      error: "not-authorized",
    };
  return offer.asksToPair
    ? { type: "accept", rule: "dpe1.pairing: a one-time code" }
    : { type: "refuse", rule: "dpe1.pairing: a code's association may pair and nothing else", error: "not-authorized" };
}

export interface PairingOffer {
  /** The handshake proved a pairing code. */
  readonly isPairingAssociation: boolean;
  /** Its keys come of an ephemeral exchange too. */
  readonly isEphemeral: boolean;
  /** `POST /dpe1/pair`. */
  readonly asksToPair: boolean;
}

export type PairingDecision =
  | { readonly type: "accept"; readonly rule: string }
  | { readonly type: "refuse"; readonly rule: string; readonly error: Extract<AuthErrorName, "not-authorized"> };
