import { Association } from "./association.js";
import type { DropReason } from "./association-output.js";
import { COOKIE_BYTES, CookieKeys } from "./cookie-keys.js";
import { type ResolvedServerOptions, resolveServerOptions, type ServerOptions } from "./options.js";
import { type ClientHelloStart, readClientHelloStart } from "./wire/client-hello-start.js";
import { HANDSHAKE_HEADER_BYTES, HANDSHAKE_TYPES, writeHandshakeHeader } from "./wire/handshake-header.js";
import { CONTENT_TYPES, DTLS_1_0, encodeRecordHeader, RECORD_HEADER_BYTES } from "./wire/record.js";
import { datagramBytes } from "./wire/writer.js";

/**
 * The front of a server: makes associations only of peers that receive at the address they send from (RFC 6347 §4.2.1),
 * and keeps nothing for the others.
 *
 * With an association at the address, that one is given every datagram; the gate is given those that hold epoch 0 as
 * well, except the ClientHello that the living one `beganWith`. The old association is to be kept until the new one is
 * connected (RFC 6347 §4.2.8), and both are given the datagrams until then.
 */
export class ServerGate {
  readonly #options: ResolvedServerOptions;
  readonly #cookies: CookieKeys;

  /** @throws DtlsError DTLS_BAD_OPTION */
  constructor(options: ServerOptions) {
    this.#options = resolveServerOptions(options);
    this.#cookies = new CookieKeys(this.#options.sharedKeys, this.#options.cookieLifetimeMs);
  }

  /**
   * Goes on with an association that was saved, without a handshake. Use a state once only, and the latest.
   * @throws DtlsError DTLS_BAD_SAVED_STATE, also when its cipher suite is not among the options any more
   */
  restore(state: Uint8Array, now: number): Association {
    return Association.restoreAs("server", state, this.#options, now);
  }

  /**
   * `peerAddress`: any bytes that stand for address and port. An association that is accepted has handled the datagram.
   * Without `demandsCookie` the peer need not have proved that it receives at its address (RFC 6347 §4.2.1).
   */
  handleDatagram(datagram: Uint8Array, peerAddress: Uint8Array, now: number, demandsCookie = true): GateAnswer {
    const start = readClientHelloStart(datagram);
    if ("drop" in start) return { type: "drop", reason: start.drop };
    const { parts } = start;
    if (!demandsCookie || this.#cookies.verify(peerAddress, parts, now)) {
      return { type: "accept", association: Association.accept(this.#options, start, datagram, now) };
    }
    const bytes = beginHelloVerifyRequest(start);
    this.#cookies.makeInto(bytes, HELLO_VERIFY_REQUEST_BYTES - COOKIE_BYTES, peerAddress, parts, now);
    return { type: "reply", bytes };
  }
}

export type GateAnswer =
  /** To be sent to the peer. */
  | { readonly type: "reply"; readonly bytes: Uint8Array }
  | { readonly type: "accept"; readonly association: Association }
  | { readonly type: "drop"; readonly reason: DropReason };

/** All but the cookie, with the record and message numbers of the ClientHello, and the version 1.0 (RFC 6347 §4.2.1). */
function beginHelloVerifyRequest({ messageSeq, recordSequenceNumber: sequenceNumber }: ClientHelloStart): Uint8Array {
  const bytes = datagramBytes(HELLO_VERIFY_REQUEST_BYTES);
  const length = HELLO_VERIFY_REQUEST_BYTES - RECORD_HEADER_BYTES;
  encodeRecordHeader({ type: CONTENT_TYPES.handshake, version: DTLS_1_0, epoch: 0, sequenceNumber, length }, bytes);
  const { hello_verify_request: type } = HANDSHAKE_TYPES;
  const bodyBytes = length - HANDSHAKE_HEADER_BYTES;
  writeHandshakeHeader(type, bodyBytes, messageSeq, 0, bodyBytes, bytes, RECORD_HEADER_BYTES);
  let at = RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES;
  bytes[at++] = DTLS_1_0 >> 8;
  bytes[at++] = DTLS_1_0 & 0xff;
  bytes[at] = COOKIE_BYTES;
  return bytes;
}

/** A record of one message: version, length of the cookie, cookie. 49 bytes, where no ClientHello has less than 67. */
const HELLO_VERIFY_REQUEST_BYTES: number = RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES + 3 + COOKIE_BYTES;
