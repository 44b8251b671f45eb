import type { Epoch, RecordLayer } from "../record-layer.js";
import { encodeHandshakeFragment, HANDSHAKE_HEADER_BYTES } from "../wire/handshake-header.js";
import { CONTENT_TYPES, type ContentType } from "../wire/record.js";
import type { HandshakeMessage } from "./reassembly.js";

/** The messages that one side sends in a row (RFC 6347 §4.2.4), kept as messages: each sending makes new records of them. */
export type Flight = readonly FlightItem[];

export type FlightItem =
  | { readonly kind: "message"; readonly epoch: Epoch; readonly message: HandshakeMessage }
  | { readonly kind: "change_cipher_spec" };

/** The flight as datagrams of at most `datagramBytes`: messages fragmented where they must be, records packed where they fit. */
export function packFlight(flight: Flight, layer: RecordLayer, datagramBytes: number): Uint8Array[] {
  const packer = new DatagramPacker(layer, datagramBytes, Math.min(wholeBytes(flight, layer), datagramBytes));
  for (const item of flight) {
    if (item.kind === "change_cipher_spec") {
      packer.add(0, CONTENT_TYPES.changeCipherSpec, CHANGE_CIPHER_SPEC);
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
  readonly #datagramBytes: number;
  #datagram: Uint8Array;
  #used = 0;

  /** `firstBytes`: the most that the first datagram will hold. */
  constructor(layer: RecordLayer, datagramBytes: number, firstBytes: number) {
    this.#layer = layer;
    this.#datagramBytes = datagramBytes;
    this.#datagram = new Uint8Array(firstBytes);
  }

  get roomBytes(): number {
    return this.#datagramBytes - this.#used;
  }

  add(epoch: Epoch, type: ContentType, plaintext: Uint8Array): void {
    if (this.#layer.overheadBytes(epoch) + plaintext.length > this.roomBytes) this.startDatagram();
    this.#used = this.#layer.sealInto(epoch, type, plaintext, this.#datagram, this.#used);
  }

  startDatagram(): void {
    if (this.#used === 0) return;
    this.#datagrams.push(this.#taken());
    this.#datagram = new Uint8Array(this.#datagramBytes);
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
      bytes += layer.overheadBytes(0) + CHANGE_CIPHER_SPEC.length;
    } else {
      const { length } = item.message.body;
      const fragments = Math.max(1, Math.ceil(length / (layer.maxPlaintextBytes(item.epoch) - HANDSHAKE_HEADER_BYTES)));
      bytes += fragments * (layer.overheadBytes(item.epoch) + HANDSHAKE_HEADER_BYTES) + length;
    }
  }
  return bytes;
}

function packMessage(message: HandshakeMessage, epoch: Epoch, layer: RecordLayer, packer: DatagramPacker): void {
  const { type, messageSeq, body } = message;
  const overhead = layer.overheadBytes(epoch) + HANDSHAKE_HEADER_BYTES;
  let offset = 0;
  do {
    const left = body.length - offset;
    if (packer.roomBytes < overhead + Math.min(left, LEAST_FRAGMENT_BYTES)) packer.startDatagram();
    const end =
      offset + Math.min(left, packer.roomBytes - overhead, layer.maxPlaintextBytes(epoch) - HANDSHAKE_HEADER_BYTES);
    const fragment = body.subarray(offset, end);
    const plaintext = encodeHandshakeFragment({
      type,
      length: body.length,
      messageSeq,
      fragmentOffset: offset,
      fragment,
    });
    packer.add(epoch, CONTENT_TYPES.handshake, plaintext);
    offset = end;
  } while (offset < body.length);
}

export const CHANGE_CIPHER_SPEC: Uint8Array = Uint8Array.of(1);
/** Rather than a smaller fragment, a new datagram. */
const LEAST_FRAGMENT_BYTES = 32;
