import type { SenmlValue } from "#senml/index.js";

/** A value of a microcontroller's property, by the name that the firmware gives it. */
export interface FirmwareReading {
  readonly name: string;
  readonly unit?: string;
  readonly value: SenmlValue;
  /** When it arrived, or as the firmware says; seconds since 1970. */
  readonly timeSeconds: number;
}
