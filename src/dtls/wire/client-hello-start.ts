import type { DropReason } from "../association-output.js";
import { DtlsError } from "../errors.js";
import { type ClientHelloParts, readClientHelloParts } from "./client-hello.js";
import { decodeHandshakeFragment, HANDSHAKE_TYPES } from "./handshake-header.js";
import { CONTENT_TYPES, decodeRecordHeader, RECORD_HEADER_BYTES } from "./record.js";

/** What a server can know of a ClientHello from one datagram, without keeping anything. */
export interface ClientHelloStart {
  readonly recordSequenceNumber: number;
  readonly messageSeq: number;
  readonly parts: ClientHelloParts;
}

/**
 * The ClientHello that a datagram begins with: whole, or a first fragment that holds all up to the extensions. Views into
 * the datagram.
 */
export function readClientHelloStart(datagram: Uint8Array): ClientHelloStart | { readonly drop: DropReason } {
  const record = decodeRecordHeader(datagram, 0);
  if ("drop" in record) return { drop: record.drop };
  if (record.epoch !== 0 || record.type !== CONTENT_TYPES.handshake) return { drop: "not-a-client-hello" };
  const plaintext = datagram.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + record.length);
  const fragment = decodeHandshakeFragment(plaintext, 0);
  if (fragment === undefined) return { drop: "malformed-fragment" };
  if (fragment.type !== HANDSHAKE_TYPES.client_hello) return { drop: "not-a-client-hello" };
  if (fragment.fragmentOffset !== 0) return { drop: "fragmented-client-hello" };
  try {
    const parts = readClientHelloParts(fragment.fragment);
    return { recordSequenceNumber: record.sequenceNumber, messageSeq: fragment.messageSeq, parts };
  } catch (error) {
    if (!(error instanceof DtlsError)) throw error;
    return { drop: fragment.fragment.length < fragment.length ? "fragmented-client-hello" : "malformed-client-hello" };
  }
}
