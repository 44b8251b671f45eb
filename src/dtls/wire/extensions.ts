import { DtlsError } from "../errors.js";
import { ByteReader } from "./reader.js";
import { ByteWriter, copyOf, uint16List, uint8, vector16, vector8 } from "./writer.js";

/**
 * `struct { ExtensionType extension_type; opaque extension_data<0..2^16-1>; } Extension;` (RFC 5246 §7.4.1.4),
 * by type. A type that occurs twice is refused.
 */
export type Extensions = ReadonlyMap<number, Uint8Array>;

export const EXTENSION_TYPES = {
  server_name: 0,
  max_fragment_length: 1,
  supported_groups: 10,
  ec_point_formats: 11,
  signature_algorithms: 13,
  application_layer_protocol_negotiation: 16,
  client_certificate_type: 19,
  server_certificate_type: 20,
  extended_master_secret: 23,
  record_size_limit: 28,
  session_ticket: 35,
  connection_id: 54,
  rrc: 61,
  renegotiation_info: 0xff01,
} as const;

/** Reads the extensions block that ends a hello, and the end of the message; it may be absent. */
export function decodeExtensions(reader: ByteReader): Extensions {
  const extensions = new Map<number, Uint8Array>();
  if (reader.remaining === 0) return extensions;
  if (reader.uint16() !== reader.remaining) throw new DtlsError("DTLS_DECODE_ERROR", "extensions");
  while (reader.remaining > 0) {
    const type = reader.uint16();
    if (extensions.has(type)) throw new DtlsError("DTLS_DECODE_ERROR", `extension ${String(type)} occurs twice`);
    extensions.set(type, reader.vector16());
  }
  return extensions;
}

/** No extension is no block. */
export function encodeExtensions(extensions: Extensions): Uint8Array {
  const writer = new ByteWriter(extensionsBytes(extensions));
  writeExtensions(extensions, writer);
  return writer.end();
}

/** Of the whole block. */
export function extensionsBytes(extensions: Extensions): number {
  if (extensions.size === 0) return 0;
  let length = BLOCK_HEADER_BYTES;
  for (const data of extensions.values()) length += EXTENSION_HEADER_BYTES + data.length;
  return length;
}

export function writeExtensions(extensions: Extensions, writer: ByteWriter): void {
  if (extensions.size === 0) return;
  const length = extensionsBytes(extensions);
  if (length > MAX_BLOCK_BYTES) throw new RangeError(`extensions of ${String(length)} bytes`);
  writer.uint16(length - BLOCK_HEADER_BYTES);
  for (const [type, data] of extensions) {
    writer.uint16(type);
    writer.vector16(data);
  }
}

/** `NamedCurveList` (RFC 8422 §5.1.1) and `SignatureScheme` lists (RFC 5246 §7.4.1.4.1) have one form. */
export function decodeIdList(data: Uint8Array): number[] {
  const reader = new ByteReader(data);
  const list = reader.uint16List(2);
  reader.end();
  return list;
}

export function encodeIdList(ids: readonly number[]): Uint8Array {
  return vector16(uint16List(ids));
}

/** `ECPointFormatList` (RFC 8422 §5.1.2). */
export function decodePointFormats(data: Uint8Array): number[] {
  const reader = new ByteReader(data);
  const formats = [...reader.vector8(1)];
  reader.end();
  return formats;
}

/** Uncompressed only. */
export function encodePointFormats(): Uint8Array {
  return vector8(uint8(UNCOMPRESSED_POINT));
}

export const UNCOMPRESSED_POINT = 0;

/** The host_name of a `ServerNameList` (RFC 6066 §3); undefined when it holds none. */
export function decodeServerName(data: Uint8Array): string | undefined {
  const reader = new ByteReader(data);
  const list = new ByteReader(reader.vector16(1));
  reader.end();
  let name: string | undefined;
  while (list.remaining > 0) {
    const type = list.uint8();
    const value = list.vector16(1);
    if (type === HOST_NAME && name === undefined) name = String.fromCharCode(...value.subarray(0, 255));
  }
  return name;
}

export function encodeServerName(name: string): Uint8Array {
  const ascii = Uint8Array.from(name, (character) => character.charCodeAt(0));
  return vector16(uint8(HOST_NAME), vector16(ascii));
}

/** `renegotiated_connection` of a first handshake is empty (RFC 5746 §3.2). */
export const EMPTY_RENEGOTIATION_INFO: Uint8Array = Uint8Array.of(0);

export function isEmptyRenegotiationInfo(data: Uint8Array): boolean {
  return data.length === 1 && data[0] === 0;
}

/** `struct { opaque cid<0..2^8-1>; } ConnectionId;` (RFC 9146 §3): what the sender wants in records sent to it. */
export function decodeConnectionId(data: Uint8Array): Uint8Array {
  const reader = new ByteReader(data);
  const connectionId = copyOf(reader.vector8());
  reader.end();
  return connectionId;
}

export function encodeConnectionId(connectionId: Uint8Array): Uint8Array {
  return vector8(connectionId);
}

const HOST_NAME = 0;
const BLOCK_HEADER_BYTES = 2;
const EXTENSION_HEADER_BYTES = 4;
const MAX_BLOCK_BYTES: number = BLOCK_HEADER_BYTES + 0xffff;
