import { setTimeout as sleep } from "node:timers/promises";

export interface UntilOptions {
  /** What is waited for, for the message; default: the text of the function. */
  readonly what?: string;
  /** How long at most, in milliseconds of real time; default 50 s, less than the idle minute after which ava ends it all. */
  readonly withinMs?: number;
  /** Ends the wait. */
  readonly signal?: AbortSignal;
}

/**
 * Asks again and again until the answer is neither `undefined` nor `false`, and gives it. Rejects after `withinMs` with what
 * was waited for: a test that waits in vain fails by name instead of hanging. Lives in real time under `VirtualTime` too.
 */
export async function until<Found>(
  look: () => Found | Promise<Found>,
  { what = textOf(look), withinMs = 50_000, signal }: UntilOptions = {},
): Promise<Exclude<Found, undefined | false>> {
  for (const endSeconds = process.uptime() + withinMs / 1000; ; await sleep(2, undefined, { signal })) {
    const found = await look();
    if (found !== undefined && found !== false) return found as Exclude<Found, undefined | false>;
    if (process.uptime() > endSeconds) throw new Error(`waited ${withinMs} ms in vain for ${what}`);
  }
}

function textOf(look: () => unknown): string {
  return String(look)
    .replace(/^(async )?\(\) => /, "")
    .replaceAll(/\s+/g, " ");
}
