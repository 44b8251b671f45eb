import { sha256 } from "../crypto/sha256.js";
import { encodeHandshakeFragment } from "../wire/handshake-header.js";
import { concat } from "../wire/writer.js";
import type { HandshakeMessage } from "./reassembly.js";

/**
 * The handshake messages so far, each as if it had been sent unfragmented (RFC 6347 §4.2.6). Kept whole, because a
 * CertificateVerify may need another hash than the PRF's.
 */
export class Transcript {
  readonly #messages: Uint8Array[] = [];

  add({ type, messageSeq, body }: HandshakeMessage): void {
    this.#messages.push(
      encodeHandshakeFragment({ type, length: body.length, messageSeq, fragmentOffset: 0, fragment: body }),
    );
  }

  /** A HelloVerifyRequest and the ClientHello before it do not count. */
  clear(): void {
    this.#messages.length = 0;
  }

  hash(): Uint8Array {
    return sha256(this.bytes());
  }

  /** Without the message added last: what that message's sender had before it. */
  hashBeforeLast(): Uint8Array {
    return sha256(this.bytesBeforeLast());
  }

  bytes(): Uint8Array {
    return concat(...this.#messages);
  }

  bytesBeforeLast(): Uint8Array {
    return concat(...this.#messages.slice(0, -1));
  }
}
