import * as z from "zod";
import { refuse } from "./refusal.js";

/**
 * A length of time: `250ms`, `10s`, `5m`, `1h30m`, `2d`, or a plain number of seconds. The value is in milliseconds,
 * so `.default(10_000)` is ten seconds.
 */
export function duration(options: DurationOptions = {}): z.ZodType<number, unknown> {
  const { minMs = 0, maxMs = Number.MAX_SAFE_INTEGER } = options;
  return z.codec(z.unknown(), z.number(), {
    decode: (value, context) => {
      const ms = typeof value === "number" ? value * 1000 : typeof value === "string" ? decodeDuration(value) : NaN;
      if (!Number.isFinite(ms) || ms < 0) {
        refuse(context, {
          code: typeof value === "number" || typeof value === "string" ? "CONFIG_BAD_VALUE" : "CONFIG_WRONG_TYPE",
          expected: "a duration such as 10s, 5m or 1h, or a number of seconds",
        });
        return z.NEVER;
      }
      if (ms < minMs || ms > maxMs) {
        const least = minMs > 0 ? `at least ${formatDuration(minMs)}` : undefined;
        const most = maxMs < Number.MAX_SAFE_INTEGER ? `at most ${formatDuration(maxMs)}` : undefined;
        refuse(context, {
          expected: `a duration of ${[least, most].filter((part) => part !== undefined).join(" and ")}`,
        });
        return z.NEVER;
      }
      return Math.round(ms);
    },
    encode: formatDuration,
  });
}

export interface DurationOptions {
  /** The least that is accepted, in milliseconds. Default 0. */
  readonly minMs?: number;
  /** The most that is accepted, in milliseconds. Default: no limit. Timers of Node.js end at 2³¹−1 ms (24.8 days). */
  readonly maxMs?: number;
}

/** Milliseconds in the largest unit that needs no fraction: 10000 → `10s`, 5400000 → `90m`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  const unit = Object.entries(UNITS_MS).findLast(([, size]) => ms % size === 0);
  return unit === undefined ? `${ms}ms` : `${ms / unit[1]}${unit[0]}`;
}

function decodeDuration(text: string): number {
  if (!/^(?:\d+(?:\.\d+)?(?:ms|[smhd]))+$/.test(text)) return NaN;
  return [...text.matchAll(/([\d.]+)(ms|[smhd])/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * (UNITS_MS[unit ?? ""] ?? NaN),
    0,
  );
}

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
