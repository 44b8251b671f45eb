import { DpeError } from "#dpe/index.js";
import { type PairingCode, pairingPsk } from "#security/index.js";

/**
 * The pairing codes that a server has issued; they end with its process. No clock and no I/O.
 *
 * Invariants:
 * 1. A code opens handshakes until it has paired one device, it expires, it is revoked, or `maxTries` handshakes that named
 *    it have not been completed: whoever does not know the secret has so many guesses.
 * 2. A try counts from when its key is asked for, so that tries at the same time are no more than tries one after another.
 * 3. An unknown code, and one that has ended, have no key: both are refused as a wrong one is.
 * 4. At most `maxCodes` are open; ended ones are told of until they would have expired, at most as many again.
 */
export class OpenCodes {
  readonly #maxCodes: number;
  readonly #maxTries: number;
  readonly #codes = new Map<string, Entry>();

  constructor({ maxCodes, maxTries = DEFAULT_MAX_TRIES }: { readonly maxCodes: number; readonly maxTries?: number }) {
    this.#maxCodes = maxCodes;
    this.#maxTries = maxTries;
  }

  /** @throws DpeError DPE_TOO_MANY_CODES. */
  add(code: PairingCode, terms: CodeTerms, now: number): void {
    this.#drop(now);
    const states = [...this.#codes].map(([id, entry]) => [id, this.#stateOf(entry, now)] as const);
    if (states.filter(([, state]) => state === "open").length >= this.#maxCodes)
      throw new DpeError("DPE_TOO_MANY_CODES", `${this.#maxCodes} pairing codes are open already: revoke one, or wait`);
    for (const [id] of states.filter(([, state]) => state !== "open").slice(0, -this.#maxCodes)) this.#codes.delete(id);
    this.#codes.set(code.id, { terms, key: pairingPsk(code).key, tries: 0, end: undefined });
  }

  /** The key for a handshake that names the code, which counts as a try until {@link proved}. */
  keyOf(id: string, now: number): Uint8Array | undefined {
    const entry = this.#codes.get(id);
    if (entry === undefined || this.#stateOf(entry, now) !== "open") return undefined;
    entry.tries += 1;
    return entry.key;
  }

  /** A handshake was completed: that try was no guess. */
  proved(id: string): void {
    const entry = this.#codes.get(id);
    if (entry !== undefined) entry.tries = Math.max(0, entry.tries - 1);
  }

  /** What the code is for, while it may pair; to be asked by an association that it opened. */
  termsOf(id: string, now: number): CodeTerms | undefined {
    const entry = this.#codes.get(id);
    return entry === undefined || entry.end !== undefined || entry.terms.expiresAt <= now ? undefined : entry.terms;
  }

  /** Ends it: it has paired a device, or an operator withdrew it. False when it has ended before. */
  end(id: string, end: CodeEnd, now: number): boolean {
    const entry = this.#codes.get(id);
    if (entry === undefined || this.termsOf(id, now) === undefined) return false;
    entry.end = end;
    entry.key = NO_KEY;
    return true;
  }

  /** Of one code, while it is told of. */
  view(id: string, now: number): CodeView | undefined {
    this.#drop(now);
    const entry = this.#codes.get(id);
    return entry && this.#viewOf(id, entry, now);
  }

  list(now: number): readonly CodeView[] {
    this.#drop(now);
    return [...this.#codes].map(([id, entry]) => this.#viewOf(id, entry, now));
  }

  #viewOf(id: string, entry: Entry, now: number): CodeView {
    const { end, terms, tries } = entry;
    const device = end?.type === "paired" ? { endpoint: end.endpoint, subscriber: end.subscriber } : {};
    return { id, state: this.#stateOf(entry, now), expiresAt: terms.expiresAt, tries, terms, ...device };
  }

  #stateOf({ end, terms, tries }: Entry, now: number): CodeState {
    if (end !== undefined) return end.type;
    if (terms.expiresAt <= now) return "expired";
    return tries >= this.#maxTries ? "tried-out" : "open";
  }

  #drop(now: number): void {
    for (const [id, { terms }] of this.#codes) if (terms.expiresAt <= now) this.#codes.delete(id);
  }
}

/** What a code allows. */
export interface CodeTerms {
  /** ms since 1970. */
  readonly expiresAt: number;
  /** A pattern of the endpoint name; absent: any. */
  readonly endpoint?: string | undefined;
  /** The subscriber that the device becomes; absent: the endpoint's name. */
  readonly subscriber?: string | undefined;
  /** It may take the place of a subscriber that was paired before, whose credentials then end. */
  readonly replaces: boolean;
}

export type CodeState = "open" | "paired" | "revoked" | "expired" | "tried-out";

export type CodeEnd =
  | { readonly type: "paired"; readonly endpoint: string; readonly subscriber: string }
  | { readonly type: "revoked" };

export interface CodeView {
  readonly id: string;
  readonly state: CodeState;
  readonly expiresAt: number;
  /** Handshakes that named it and were not completed. */
  readonly tries: number;
  readonly terms: CodeTerms;
  readonly endpoint?: string;
  readonly subscriber?: string;
}

interface Entry {
  readonly terms: CodeTerms;
  key: Uint8Array;
  tries: number;
  end: CodeEnd | undefined;
}

export const DEFAULT_MAX_TRIES = 5;
const NO_KEY = new Uint8Array(0);
