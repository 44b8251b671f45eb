import type { SenmlValue } from "#senml/index.js";
import type { ChangeRule } from "./change-rule.js";

/** Where properties come from. */
export interface Source {
  /** What it is called in events, such as `host`. */
  readonly name: string;
  readonly everyMs: number;
  /** Which of its readings are reported. Default: those that changed, and each at least every 5 minutes. */
  readonly rules?: readonly ChangeRule[];
  /** Rejects when it could not be read; the others are not held up. */
  read(): Promise<readonly Reading[]>;
  /** Tells when there is something new to read before the interval is over. */
  onWake?(listener: () => void): void;
  /** The property as it is now, from where it is; nothing where it is not this source's. */
  refresh?(name: string): Promise<readonly Reading[]>;
  /** Sets a property; false where it is not this source's, or may not be set. */
  write?(name: string, value: SenmlValue): Promise<boolean>;
  /** Nothing is read any more. */
  close?(): Promise<void>;
}

/** One property as a source reads it. */
export interface Reading {
  readonly name: string;
  /** From RFC 8428 §12.1 or RFC 8798. */
  readonly unit?: string;
  readonly value: SenmlValue;
  /** Default dynamic. `static`: goes with each registration, and into a report only when it changes. */
  readonly kind?: "static" | "dynamic";
}
