import { checkName, isWellFormed } from "#senml/index.js";
import type { FirmwareReading } from "./reading.js";

/**
 * The protocol for a sketch of ten lines: a line of JSON for what was measured, `{"temperature":21.5,"button":false}`, or
 * `{"n":"temperature","u":"Cel","v":21.5}` where a unit is to be told. After it may come `*` and two hex digits, the
 * exclusive or of all bytes before the asterisk, as GPS receivers do it. Any other line is for the log.
 */
export class JsonLinesDecoder {
  readonly counters: { lines: number; dropped: number } = { lines: 0, dropped: 0 };
  readonly #options: JsonLinesOptions;
  readonly #line: number[] = [];
  #isTooLong = false;

  constructor(options: Partial<JsonLinesOptions> = {}) {
    this.#options = { ...DEFAULT_JSON_LINES_OPTIONS, ...options };
  }

  /** What the lines that end in these bytes say. */
  push(bytes: Uint8Array, nowSeconds: number): JsonLine[] {
    const lines: JsonLine[] = [];
    for (const byte of bytes) {
      if (byte !== LINE_FEED) {
        if (this.#line.length < this.#options.maxLineBytes) this.#line.push(byte);
        else this.#isTooLong = true;
        continue;
      }
      const line = this.#isTooLong ? undefined : this.#read(Uint8Array.from(this.#line), nowSeconds);
      if (this.#isTooLong) this.counters.dropped++;
      this.#line.length = 0;
      this.#isTooLong = false;
      if (line !== undefined) lines.push(line);
    }
    return lines;
  }

  #read(bytes: Uint8Array, nowSeconds: number): JsonLine | undefined {
    const text = new TextDecoder().decode(bytes).trim();
    if (text === "") return undefined;
    if (!text.startsWith("{") && !text.startsWith("[")) return { type: "text", text };
    const checked = CHECKSUM.exec(text);
    const body = checked?.[1] ?? text;
    const isBad =
      checked === null
        ? this.#options.checksum === "required"
        : checksumOf(new TextEncoder().encode(body)) !== Number.parseInt(checked[2] ?? "", 16);
    const readings = isBad ? undefined : readingsOf(body, nowSeconds);
    if (readings === undefined) {
      this.counters.dropped++;
      return undefined;
    }
    this.counters.lines++;
    return { type: "readings", readings };
  }
}

export interface JsonLinesOptions {
  /** Default optional: one that is there must be right. */
  readonly checksum: "optional" | "required";
  /** Default 1024; a longer line is dropped. */
  readonly maxLineBytes: number;
}

export const DEFAULT_JSON_LINES_OPTIONS: JsonLinesOptions = { checksum: "optional", maxLineBytes: 1024 };

export type JsonLine =
  | { readonly type: "readings"; readonly readings: readonly FirmwareReading[] }
  | { readonly type: "text"; readonly text: string };

/** The exclusive or of all bytes. */
export function checksumOf(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte) => sum ^ byte, 0);
}

/** All of the line, or undefined where any of it is no reading. */
function readingsOf(body: string, timeSeconds: number): readonly FirmwareReading[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return undefined;
  }
  const items: readonly unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  const readings = items.map((item) => readingsOfItem(item, timeSeconds));
  return readings.every((reading) => reading !== undefined) ? readings.flat() : undefined;
}

function readingsOfItem(item: unknown, timeSeconds: number): readonly FirmwareReading[] | undefined {
  if (typeof item !== "object" || item === null || Array.isArray(item)) return undefined;
  const { n, u, v, ...rest } = item as Record<string, unknown>;
  if (typeof n === "string" && v !== undefined) {
    const unit = typeof u === "string" ? u : undefined;
    const reading = readingOf(n, v, unit, timeSeconds);
    return Object.keys(rest).length > 0 || (u !== undefined && unit === undefined) || reading === undefined
      ? undefined
      : [reading];
  }
  const readings = Object.entries(item).map(([name, value]) => readingOf(name, value, undefined, timeSeconds));
  return readings.every((reading) => reading !== undefined) ? readings : undefined;
}

function readingOf(
  name: string,
  value: unknown,
  unit: string | undefined,
  timeSeconds: number,
): FirmwareReading | undefined {
  if (typeof value !== "number" && typeof value !== "string" && typeof value !== "boolean") return undefined;
  // JSON has numbers that no double holds, and halves of surrogate pairs: neither can be told on.
  if (typeof value === "number" && !Number.isFinite(value)) return undefined;
  if (![value, unit].every((text) => typeof text !== "string" || isWellFormed(text))) return undefined;
  try {
    checkName(name);
  } catch {
    return undefined;
  }
  return { name, ...(unit === undefined ? {} : { unit }), value, timeSeconds };
}

const LINE_FEED = 0x0a;
const CHECKSUM = /^(.*)\*([0-9A-Fa-f]{2})$/;
