import { ByteReader } from "./reader.js";
import { uint16 } from "./writer.js";

/** RecordSizeLimit (RFC 8449 §4): a uint16; undefined below 64, which is illegal. */
export function decodeRecordSizeLimit(data: Uint8Array): number | undefined {
  const reader = new ByteReader(data);
  const limit = reader.uint16();
  reader.end();
  return limit < LEAST_RECORD_SIZE_LIMIT ? undefined : limit;
}

export function encodeRecordSizeLimit(limitBytes: number): Uint8Array {
  return uint16(limitBytes);
}

export const LEAST_RECORD_SIZE_LIMIT = 64;

/** MaxFragmentLength (RFC 6066 §4): 1 to 4 stand for 2^9 to 2^12 bytes; undefined for others, which are illegal. */
export function decodeMaxFragmentLength(data: Uint8Array): MaxFragmentLength | undefined {
  const reader = new ByteReader(data);
  const code = reader.uint8();
  reader.end();
  return MAX_FRAGMENT_LENGTHS[code - 1];
}

export function encodeMaxFragmentLength(bytes: MaxFragmentLength): Uint8Array {
  return Uint8Array.of(MAX_FRAGMENT_LENGTHS.indexOf(bytes) + 1);
}

export type MaxFragmentLength = (typeof MAX_FRAGMENT_LENGTHS)[number];

export const MAX_FRAGMENT_LENGTHS = [512, 1024, 2048, 4096] as const;
