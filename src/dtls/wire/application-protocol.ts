import { ByteReader } from "./reader.js";
import { vector16, vector8 } from "./writer.js";

/** `ProtocolName protocol_name_list<2..2^16-1>`, each `opaque<1..2^8-1>` (RFC 7301 §3.1). */
export function decodeApplicationProtocols(data: Uint8Array): string[] {
  const reader = new ByteReader(data);
  const list = new ByteReader(reader.vector16(2));
  reader.end();
  const names: string[] = [];
  while (list.remaining > 0) names.push(String.fromCharCode(...list.vector8(1)));
  return names;
}

/** Each name as the bytes that its characters stand for, 1–255 of them. */
export function encodeApplicationProtocols(names: readonly string[]): Uint8Array {
  return vector16(...names.map((name) => vector8(Uint8Array.from(name, (character) => character.charCodeAt(0)))));
}
