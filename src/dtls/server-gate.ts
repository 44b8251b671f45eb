import { Association } from "./association.js";
import type { DropReason } from "./association-output.js";
import { COOKIE_BYTES, CookieKeys } from "./cookie-keys.js";
import { type ResolvedServerOptions, resolveServerOptions, type ServerOptions } from "./options.js";
import { type ClientHelloStart, readClientHelloStart } from "./wire/client-hello-start.js";
import { HANDSHAKE_HEADER_BYTES, HANDSHAKE_TYPES, writeHandshakeFragment } from "./wire/handshake-header.js";
import { encodeHelloVerifyRequest } from "./wire/hello-verify-request.js";
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
    if (parts.cookie.length > COOKIE_BYTES) return { type: "drop", reason: "oversized-cookie" };
    if (!demandsCookie || this.#cookies.verify(peerAddress, parts, now)) {
      return { type: "accept", association: Association.accept(this.#options, start, datagram, now) };
    }
    const bytes = composeHelloVerifyRequest(start, this.#cookies.make(peerAddress, parts, now));
    if (bytes.length > datagram.length) return { type: "drop", reason: "no-amplification" };
    return { type: "reply", bytes };
  }
}

export type GateAnswer =
  /** To be sent to the peer. */
  | { readonly type: "reply"; readonly bytes: Uint8Array }
  | { readonly type: "accept"; readonly association: Association }
  | { readonly type: "drop"; readonly reason: DropReason };

/** With the record and message numbers of the ClientHello, and the version 1.0 (RFC 6347 §4.2.1). */
function composeHelloVerifyRequest(start: ClientHelloStart, cookie: Uint8Array): Uint8Array {
  const body = encodeHelloVerifyRequest({ version: DTLS_1_0, cookie });
  const length = HANDSHAKE_HEADER_BYTES + body.length;
  const record = datagramBytes(RECORD_HEADER_BYTES + length);
  const { messageSeq, recordSequenceNumber: sequenceNumber } = start;
  const type = CONTENT_TYPES.handshake;
  encodeRecordHeader({ type, version: DTLS_1_0, epoch: 0, sequenceNumber, length }, record);
  writeHandshakeFragment(
    {
      type: HANDSHAKE_TYPES.hello_verify_request,
      length: body.length,
      messageSeq,
      fragmentOffset: 0,
      fragment: body,
    },
    record,
    RECORD_HEADER_BYTES,
  );
  return record;
}
