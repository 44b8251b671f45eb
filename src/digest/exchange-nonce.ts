import type { NonceJudge } from "./verification.js";
import { areEqualBytes } from "./message-response.js";
import { NonceCountWindow } from "./nonce-count-window.js";

/**
 * The nonce of one exchange of ours, kept with it: what a challenger that speaks first needs (DPE-2). It is good for answers
 * to this exchange only, each nonce count once, for as long as the exchange lasts: an observation may last long.
 */
export class ExchangeNonce implements NonceJudge {
  readonly nonce: Uint8Array;
  readonly #window: NonceCountWindow = new NonceCountWindow();

  /** `nonce` is at least 16 random bytes, kept. */
  constructor(nonce: Uint8Array) {
    this.nonce = nonce;
  }

  judge(nonce: Uint8Array): { readonly type: "valid"; readonly needsRenewal: false } | { readonly type: "forged" } {
    return areEqualBytes(nonce, this.nonce) ? { type: "valid", needsRenewal: false } : { type: "forged" };
  }

  accept(_nonce: Uint8Array, nonceCount: number): "fresh" | "replayed" {
    return this.#window.accept(nonceCount) ? "fresh" : "replayed";
  }
}
