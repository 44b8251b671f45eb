import { timingSafeEqual } from "node:crypto";
import type { CommonOptions } from "./options.js";
import { PATH_COOKIE_BYTES, type ReturnRoutabilityCheck } from "./wire/return-routability-check.js";

/**
 * Whether a peer that sends from a new address, the candidate, receives there (RFC 9853 §5); until then the candidate is
 * sent at most three times the bytes that came from it, and what is more waits here.
 *
 * ```
 *  basic:     new ── path_response from the candidate ──▶ validated
 *                 ── time-out ──▶ refused
 *  enhanced:  old ── path_response, from anywhere ──▶ refused
 *                 ── path_drop, or time-out ──▶ new
 * ```
 *
 * A response of the candidate's must come from the candidate, or whoever hands the challenge on to the peer at its old
 * address would be believed.
 */
export class PathValidation {
  readonly #options: PathValidationOptions;
  #asks: "old" | "new";
  /** Of the challenges of this stage, each its own (RFC 9853 §5.3). */
  #cookies: Uint8Array[] = [];
  #allowedBytes = 0;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #challengeAt: number;
  #deadline: number;

  constructor(options: PathValidationOptions, now: number) {
    this.#options = options;
    this.#asks = options.returnRoutabilityCheck === "enhanced" ? "old" : "new";
    this.#challengeAt = now;
    this.#deadline = now + options.pathValidationTimeoutMs;
  }

  /** An authentic record came from the candidate. */
  heard(bytes: number): void {
    this.#allowedBytes += ANTI_AMPLIFICATION_FACTOR * bytes;
  }

  /** Whether so many bytes may go to the candidate. */
  allows(bytes: number): boolean {
    return bytes <= this.#allowedBytes;
  }

  /** The same; they count as sent then. */
  takes(bytes: number): boolean {
    if (!this.allows(bytes)) return false;
    this.#allowedBytes -= bytes;
    return true;
  }

  /** Keeps a copy of data until the outcome; false when there is no room. */
  hold(data: Uint8Array): boolean {
    if (this.#heldBytes + data.length + COST_BYTES > this.#options.maxHeldPathBytes) return false;
    this.#heldBytes += data.length + COST_BYTES;
    this.#held.push(data.slice());
    return true;
  }

  get held(): readonly Uint8Array[] {
    return this.#held;
  }

  nextTimeout(): number {
    return Math.min(this.#challengeAt, this.#deadline);
  }

  /** Undefined when there is nothing to do yet. */
  handleTimeout(now: number): "challenge" | "refused" | undefined {
    if (now >= this.#deadline) {
      if (this.#asks === "new") return "refused";
      this.#askNew(now);
    }
    return now >= this.#challengeAt ? "challenge" : undefined;
  }

  /** The next challenge, and which address it is for. */
  challenge(now: number): { readonly to: "old" | "new"; readonly cookie: Uint8Array } {
    this.#challengeAt = now + Math.max(CHALLENGE_MS, this.#options.pathValidationTimeoutMs / MAX_CHALLENGES);
    const cookie = this.#options.random(PATH_COOKIE_BYTES);
    this.#cookies.push(cookie);
    return { to: this.#asks, cookie };
  }

  /** Undefined for an answer to no challenge of ours, and for one that proves nothing. */
  handleAnswer(
    { type, cookie }: ReturnRoutabilityCheck,
    isFromCandidate: boolean,
    now: number,
  ): "validated" | "refused" | "challenge" | undefined {
    if (!this.#cookies.some((one) => timingSafeEqual(one, cookie))) return undefined;
    if (this.#asks === "new") return type === "path_response" && isFromCandidate ? "validated" : undefined;
    if (type === "path_response") return "refused";
    this.#askNew(now);
    return "challenge";
  }

  #askNew(now: number): void {
    this.#asks = "new";
    this.#cookies = [];
    this.#challengeAt = now;
    this.#deadline = now + this.#options.pathValidationTimeoutMs;
  }
}

export type PathValidationOptions = Required<
  Pick<CommonOptions, "returnRoutabilityCheck" | "pathValidationTimeoutMs" | "maxHeldPathBytes" | "random">
>;

/** RFC 9853 §2. */
const ANTI_AMPLIFICATION_FACTOR = 3;
const CHALLENGE_MS = 1000;
/** In one stage. */
const MAX_CHALLENGES = 8;
/** What held data cost besides their bytes. */
const COST_BYTES = 64;
