import { SHA256_BYTES, sha256Text, writeDigest } from "../crypto/sha256.js";
import { HANDSHAKE_HEADER_BYTES, writeHandshakeFragment } from "../wire/handshake-header.js";
import type { HandshakeMessage } from "./reassembly.js";

/**
 * The handshake messages so far, each as if it had been sent unfragmented (RFC 6347 §4.2.6). Kept whole, because a
 * CertificateVerify may need another hash than the PRF's; in one array, so that a hash takes no copy.
 */
export class Transcript {
  #messages: Uint8Array = SPARE.pop() ?? new Uint8Array(PSK_HANDSHAKE_BYTES);
  #end = 0;
  #lastAt = 0;
  /** The hash made last, and of how many bytes it is: the session hash is that of the client's Finished, without a CertificateVerify. */
  #digest = "";
  #digestOf = -1;

  add({ type, messageSeq, body }: HandshakeMessage): void {
    const { length } = body;
    this.#lastAt = this.#end;
    this.#end += HANDSHAKE_HEADER_BYTES + length;
    if (this.#end > this.#messages.length) {
      const longer = new Uint8Array(Math.max(this.#end, 2 * this.#messages.length));
      longer.set(this.#messages);
      this.#messages = longer;
    }
    writeHandshakeFragment(
      { type, length, messageSeq, fragmentOffset: 0, fragment: body },
      this.#messages,
      this.#lastAt,
    );
  }

  /** Of the message added last, as it stands here: a view. */
  lastBody(): Uint8Array {
    return this.#messages.subarray(this.#lastAt + HANDSHAKE_HEADER_BYTES, this.#end);
  }

  /** A HelloVerifyRequest and the ClientHello before it do not count. Their bodies are overwritten by what is added next. */
  clear(): void {
    this.#end = 0;
    this.#lastAt = 0;
    this.#digestOf = -1;
  }

  /** The handshake is complete, and no view of this is needed any more: gives the array to the next one. */
  release(): void {
    if (this.#messages.length === PSK_HANDSHAKE_BYTES && SPARE.length < MAX_SPARE) SPARE.push(this.#messages);
    this.#messages = NO_BYTES;
    this.clear();
  }

  /** In scratch space, as is `hashBeforeLast`: valid until the next of either is asked for. */
  hash(): Uint8Array {
    return this.#hashTo(this.#end);
  }

  /** Without the message added last: what that message's sender had before it. */
  hashBeforeLast(): Uint8Array {
    return this.#hashTo(this.#lastAt);
  }

  /** A view, as is `bytesBeforeLast`. */
  bytes(): Uint8Array {
    return this.#messages.subarray(0, this.#end);
  }

  bytesBeforeLast(): Uint8Array {
    return this.#messages.subarray(0, this.#lastAt);
  }

  #hashTo(end: number): Uint8Array {
    if (end !== this.#digestOf) {
      this.#digest = sha256Text(this.#messages.subarray(0, end));
      this.#digestOf = end;
    }
    writeDigest(this.#digest, HASH, 0);
    return HASH;
  }
}

/** Most of them are shorter; with certificates the array grows. */
const PSK_HANDSHAKE_BYTES = 512;
/** To make an array of 512 bytes takes 0.9 µs, and the collector's time. Nothing secret has been in them. */
const SPARE: Uint8Array[] = [];
const MAX_SPARE = 64;
const NO_BYTES: Uint8Array = new Uint8Array(0);
const HASH: Uint8Array = new Uint8Array(SHA256_BYTES);
