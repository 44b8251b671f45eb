import type { DropReason } from "../association-output.js";
import { DtlsError } from "../errors.js";
import { type ClientHelloParts, readClientHelloParts } from "./client-hello.js";
import { fragmentBytesAt, HANDSHAKE_HEADER_BYTES, HANDSHAKE_TYPES, uint24At } from "./handshake-header.js";
import { CONTENT_TYPES, decodeRecordHeader, RECORD_HEADER_BYTES } from "./record.js";

/** What a server can know of a ClientHello from one datagram, without keeping anything. */
export interface ClientHelloStart {
  readonly recordSequenceNumber: number;
  readonly messageSeq: number;
  readonly parts: ClientHelloParts;
}

/** The ClientHello that a datagram begins with: whole, or a first fragment that holds all up to the extensions. */
export function readClientHelloStart(datagram: Uint8Array): ClientHelloStart | { readonly drop: DropReason } {
  const record = decodeRecordHeader(datagram, 0);
  if ("drop" in record) return { drop: record.drop };
  if (record.epoch !== 0 || record.type !== CONTENT_TYPES.handshake) return { drop: "not-a-client-hello" };
  const at = RECORD_HEADER_BYTES;
  const fragmentBytes = fragmentBytesAt(datagram, at, at + record.length);
  if (fragmentBytes === undefined) return { drop: "malformed-fragment" };
  if (datagram[at] !== HANDSHAKE_TYPES.client_hello) return { drop: "not-a-client-hello" };
  if (uint24At(datagram, at + 6) !== 0) return { drop: "fragmented-client-hello" };
  const bodyAt = at + HANDSHAKE_HEADER_BYTES;
  try {
    const parts = readClientHelloParts(datagram, bodyAt, bodyAt + fragmentBytes);
    const messageSeq = uint24At(datagram, at + 3) & 0xffff;
    return { recordSequenceNumber: record.sequenceNumber, messageSeq, parts };
  } catch (error) {
    if (!(error instanceof DtlsError)) throw error;
    const isWhole = fragmentBytes === uint24At(datagram, at + 1);
    return { drop: isWhole ? "malformed-client-hello" : "fragmented-client-hello" };
  }
}
