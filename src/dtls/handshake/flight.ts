import { DtlsError } from "../errors.js";
import type { Epoch, RecordLayer } from "../record-layer.js";
import { HANDSHAKE_HEADER_BYTES, type HandshakeFragment, writeHandshakeFragment } from "../wire/handshake-header.js";
import { CONTENT_TYPES } from "../wire/record.js";
import { datagramBytes } from "../wire/writer.js";
import type { HandshakeMessage } from "./reassembly.js";

/** The messages that one side sends in a row (RFC 6347 §4.2.4), kept as messages: each sending makes new records of them. */
export type Flight = readonly FlightItem[];

export type FlightItem =
  | { readonly kind: "message"; readonly epoch: Epoch; readonly message: HandshakeMessage }
  | { readonly kind: "change_cipher_spec" };

/** The flight as datagrams of at most `maxBytes`: messages fragmented where they must be, records packed where they fit. @throws DtlsError DTLS_ILLEGAL_PARAMETER */
export function packFlight(flight: Flight, layer: RecordLayer, maxBytes: number): Uint8Array[] {
  const packer = new DatagramPacker(layer, maxBytes, Math.min(wholeBytes(flight, layer), maxBytes));
  for (const item of flight) {
    if (item.kind === "change_cipher_spec") {
      packer.addChangeCipherSpec();
      layer.startWritingEpoch1();
    } else {
      packMessage(item.message, item.epoch, layer, packer);
    }
  }
  return packer.finish();
}

/** Records are sealed where they are to stand: a flight that fits into one datagram takes one array. */
class DatagramPacker {
  readonly #layer: RecordLayer;
  readonly #datagrams: Uint8Array[] = [];
  readonly #maxBytes: number;
  #datagram: Uint8Array;
  #used = 0;

  /** `firstBytes`: the most that the first datagram will hold. */
  constructor(layer: RecordLayer, maxBytes: number, firstBytes: number) {
    this.#layer = layer;
    this.#maxBytes = maxBytes;
    this.#datagram = datagramBytes(firstBytes);
  }

  get roomBytes(): number {
    return this.#maxBytes - this.#used;
  }

  addChangeCipherSpec(): void {
    if (this.#layer.overheadBytes(0) + 1 > this.roomBytes) this.startDatagram();
    this.#datagram[this.#used + this.#layer.contentAt(0)] = CHANGE_CIPHER_SPEC;
    this.#used = this.#layer.sealInPlace(0, CONTENT_TYPES.changeCipherSpec, 1, this.#datagram, this.#used);
  }

  /** There must be room. */
  addFragment(epoch: Epoch, fragment: HandshakeFragment): void {
    writeHandshakeFragment(fragment, this.#datagram, this.#used + this.#layer.contentAt(epoch));
    const length = HANDSHAKE_HEADER_BYTES + fragment.fragment.length;
    this.#used = this.#layer.sealInPlace(epoch, CONTENT_TYPES.handshake, length, this.#datagram, this.#used);
  }

  startDatagram(): void {
    if (this.#used === 0) return;
    this.#datagrams.push(this.#taken());
    this.#datagram = datagramBytes(this.#maxBytes);
    this.#used = 0;
  }

  finish(): Uint8Array[] {
    if (this.#used > 0) this.#datagrams.push(this.#taken());
    return this.#datagrams;
  }

  #taken(): Uint8Array {
    return this.#used === this.#datagram.length ? this.#datagram : this.#datagram.subarray(0, this.#used);
  }
}

/** At most, in one datagram however long: a message is fragmented only where the peer limits its records. */
function wholeBytes(flight: Flight, layer: RecordLayer): number {
  let bytes = 0;
  for (const item of flight) {
    if (item.kind === "change_cipher_spec") {
      bytes += layer.overheadBytes(0) + 1;
    } else {
      const { length } = item.message.body;
      const fragments = Math.max(1, Math.ceil(length / (layer.maxPlaintextBytes(item.epoch) - HANDSHAKE_HEADER_BYTES)));
      bytes += fragments * (layer.overheadBytes(item.epoch) + HANDSHAKE_HEADER_BYTES) + length;
    }
  }
  return bytes;
}

/** @throws DtlsError DTLS_ILLEGAL_PARAMETER */
function packMessage(message: HandshakeMessage, epoch: Epoch, layer: RecordLayer, packer: DatagramPacker): void {
  const { type, messageSeq, body } = message;
  const overhead = layer.overheadBytes(epoch) + HANDSHAKE_HEADER_BYTES;
  let offset = 0;
  do {
    const left = body.length - offset;
    if (packer.roomBytes < overhead + Math.min(left, LEAST_FRAGMENT_BYTES)) packer.startDatagram();
    const room = Math.min(packer.roomBytes - overhead, layer.maxPlaintextBytes(epoch) - HANDSHAKE_HEADER_BYTES);
    // The peer chose how long its connection identifier is.
    if (room < Math.min(left, 1)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "the peer's connection identifier leaves no room in a datagram");
    }
    const end = offset + Math.min(left, room);
    const fragment = end - offset === body.length ? body : body.subarray(offset, end);
    packer.addFragment(epoch, { type, length: body.length, messageSeq, fragmentOffset: offset, fragment });
    offset = end;
  } while (offset < body.length);
}

/** The one byte that it is. */
const CHANGE_CIPHER_SPEC = 1;
/** Rather than a smaller fragment, a new datagram. */
const LEAST_FRAGMENT_BYTES = 32;
