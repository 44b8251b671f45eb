import { ByteReader } from "./reader.js";
import { concat, copyOf, uint16, vector16 } from "./writer.js";

/** NewSessionTicket (RFC 5077 §3.3): `uint32 ticket_lifetime_hint; opaque ticket<0..2^16-1>;` */
export interface NewSessionTicket {
  readonly lifetimeHintSeconds: number;
  /** Empty: the server has none after all. */
  readonly ticket: Uint8Array;
}

/** @throws DtlsError DTLS_DECODE_ERROR */
export function decodeNewSessionTicket(body: Uint8Array): NewSessionTicket {
  const reader = new ByteReader(body);
  const lifetimeHintSeconds = reader.uint16() * 0x10000 + reader.uint16();
  const ticket = copyOf(reader.vector16());
  reader.end();
  return { lifetimeHintSeconds, ticket };
}

export function encodeNewSessionTicket({ lifetimeHintSeconds, ticket }: NewSessionTicket): Uint8Array {
  return concat(
    uint16(Math.floor(lifetimeHintSeconds / 0x10000)),
    uint16(lifetimeHintSeconds & 0xffff),
    vector16(ticket),
  );
}
