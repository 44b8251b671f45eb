import { concat, copyOf, uint8 } from "./writer.js";

/**
 * `return_routability_check` (RFC 9853 §4):
 *
 * ```
 *  +----------+------------+
 *  | msg_type | cookie (8) |
 *  +----------+------------+
 * ```
 */
export interface ReturnRoutabilityCheck {
  readonly type: PathMessageType;
  readonly cookie: Uint8Array;
}

export type PathMessageType = "path_challenge" | "path_response" | "path_drop";

export function encodeReturnRoutabilityCheck({ type, cookie }: ReturnRoutabilityCheck): Uint8Array {
  return concat(uint8(PATH_MESSAGE_TYPES.indexOf(type)), cookie);
}

/** Undefined for a type that is unknown, which is to be ignored, and for any other length. */
export function decodeReturnRoutabilityCheck(bytes: Uint8Array): ReturnRoutabilityCheck | undefined {
  const type = PATH_MESSAGE_TYPES[bytes[0] ?? PATH_MESSAGE_TYPES.length];
  if (type === undefined || bytes.length !== PATH_MESSAGE_BYTES) return undefined;
  return { type, cookie: copyOf(bytes.subarray(1)) };
}

/** By their numbers. */
const PATH_MESSAGE_TYPES: readonly PathMessageType[] = ["path_challenge", "path_response", "path_drop"];
export const PATH_COOKIE_BYTES = 8;
const PATH_MESSAGE_BYTES: number = 1 + PATH_COOKIE_BYTES;
