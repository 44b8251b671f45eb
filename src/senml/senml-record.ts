import { SenmlError } from "./errors.js";

/** One measured value, resolved (RFC 8428 §4.6). */
export interface SenmlRecord {
  readonly name: string;
  /** From the units registry of RFC 8428 §12.1 and RFC 8798. */
  readonly unit?: string;
  readonly value?: SenmlValue;
  /** Integral over time, in the unit times seconds. */
  readonly sum?: number;
  /**
   * Seconds since 1970. When encoding, one below 2^28 stands for a time relative to the receiver's now (RFC 8428
   * §4.5.3), and an absent one for now; after decoding it is absolute.
   */
  readonly timeSeconds?: number;
  /** The longest time until the next value of this name, in seconds. */
  readonly updateTimeSeconds?: number;
  /** SenML's version where it is not 10: the same in all records of a pack. */
  readonly version?: number;
}

/** `v`, `vs`, `vb` or `vd`. */
export type SenmlValue = number | string | boolean | Uint8Array;

/** Times below are relative to now (RFC 8428 §4.5.3). */
export const FIRST_ABSOLUTE_TIME_SECONDS: number = 2 ** 28;

/** The version that a pack has when it names none (RFC 8428 §4.1). */
export const DEFAULT_VERSION = 10;

/**
 * Whether a pack of this version can be used. RFC 8428 §4.4 refuses larger numbers only; RFC 9100 makes bits of them, of
 * which 4 says that secondary units may occur: units are carried here as they are, and so are those.
 */
export function isSupportedVersion(version: number): boolean {
  return (Number.isInteger(version) && version >= 1 && version <= DEFAULT_VERSION) || version === SECONDARY_UNITS;
}

/** @throws SenmlError SENML_BAD_NAME: RFC 8428 §4.5.1; the length is a local limit. */
export function checkName(name: string, record?: number): void {
  if (name.length <= MAX_NAME_LENGTH && /^[A-Za-z0-9][A-Za-z0-9:._/-]*$/.test(name)) return;
  throw new SenmlError(
    "SENML_BAD_NAME",
    `a name is 1 to ${MAX_NAME_LENGTH} of A-Z a-z 0-9 - : . / _ and starts with a letter or digit`,
    record === undefined ? {} : { record },
  );
}

/** An absolute time from the sum of base time and time. */
export function absoluteTime(timeSeconds: number, nowSeconds: number): number {
  return timeSeconds < FIRST_ABSOLUTE_TIME_SECONDS ? nowSeconds + timeSeconds : timeSeconds;
}

const SECONDARY_UNITS = DEFAULT_VERSION + 2 ** 4;
const MAX_NAME_LENGTH = 255;
