/**
 * Lines that a microcontroller writes for people. They come from outside: control characters are made visible, long ones
 * cut, and no more than a few a second pass, the rest only counted. The time is an argument, ms.
 */
export class DiagnosticLines {
  readonly #perSecond: number;
  #allowance: number;
  #at: number | undefined;
  #suppressed = 0;

  /** Default 10 a second, and as many at once again. */
  constructor(perSecond: number = DEFAULT_LINES_PER_SECOND) {
    this.#perSecond = perSecond;
    this.#allowance = perSecond * 2;
  }

  /** A line for the log with how many were left out before it; undefined when this one is left out. */
  take(text: string, now: number): DiagnosticLine | undefined {
    const passed = now - (this.#at ?? now);
    this.#at = now;
    this.#allowance = Math.min(this.#perSecond * 2, this.#allowance + (passed * this.#perSecond) / 1000);
    if (this.#allowance < 1) {
      this.#suppressed++;
      return undefined;
    }
    this.#allowance -= 1;
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    return { text: printable(text), suppressed };
  }
}

export interface DiagnosticLine {
  readonly text: string;
  /** Lines left out since the one before. */
  readonly suppressed: number;
}

/** One line with control characters as `\x1b`, at most 200 characters. */
export function printable(text: string): string {
  const visible = text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
  return visible.length <= MAX_CHARACTERS ? visible : `${visible.slice(0, MAX_CHARACTERS - 1)}…`;
}

/** Control characters, line separators, and those that turn the direction of what follows. */
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
const MAX_CHARACTERS = 200;
const DEFAULT_LINES_PER_SECOND = 10;
