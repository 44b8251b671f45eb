/** What a decoder takes at most; past it SENML_TOO_LARGE. */
export interface PackLimits {
  /** Size of the payload. Bounds memory and work, which are linear in it. Default 64 KiB. */
  readonly maxBytes: number;
  /** Default 1000. Too small: a backlog sent in one pack is refused whole. */
  readonly maxRecords: number;
}

export const DEFAULT_PACK_LIMITS: PackLimits = { maxBytes: 65_536, maxRecords: 1000 };
