import type { RadiusPacket } from "./packet.js";

/** Answers kept for repeats of their requests: same source, Identifier and Authenticator (RFC 5080 §2.2.2). */
export class RecentAnswers {
  readonly #limits: { readonly answerLifetimeMs: number; readonly maxAnswers: number };
  /** The oldest first. */
  readonly #answers = new Map<string, { readonly answer: Uint8Array; readonly expiresAt: number }>();

  constructor(limits: { readonly answerLifetimeMs: number; readonly maxAnswers: number }) {
    this.#limits = limits;
  }

  find(request: RadiusPacket, from: Source, now: number): Uint8Array | undefined {
    const kept = this.#answers.get(keyOf(request, from));
    return kept === undefined || kept.expiresAt <= now ? undefined : kept.answer;
  }

  keep(request: RadiusPacket, from: Source, answer: Uint8Array, now: number): void {
    const key = keyOf(request, from);
    this.#answers.delete(key);
    this.#answers.set(key, { answer, expiresAt: now + this.#limits.answerLifetimeMs });
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= this.#limits.maxAnswers) break;
      this.#answers.delete(oldest);
    }
  }

  sweep(now: number): void {
    for (const [key, { expiresAt }] of this.#answers) {
      if (expiresAt > now) break;
      this.#answers.delete(key);
    }
  }
}

interface Source {
  readonly address: string;
  readonly port: number;
}

function keyOf({ identifier, authenticator }: RadiusPacket, { address, port }: Source): string {
  return `${address} ${port} ${identifier} ${String.fromCharCode(...authenticator)}`;
}
