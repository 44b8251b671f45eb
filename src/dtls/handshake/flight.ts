import type { Epoch, RecordLayer } from "../record-layer.js";
import { encodeHandshakeFragment, HANDSHAKE_HEADER_BYTES } from "../wire/handshake-header.js";
import { CONTENT_TYPES } from "../wire/record.js";
import { concat } from "../wire/writer.js";
import type { HandshakeMessage } from "./reassembly.js";

/** The messages that one side sends in a row (RFC 6347 §4.2.4), kept as messages: each sending makes new records of them. */
export type Flight = readonly FlightItem[];

export type FlightItem =
  | { readonly kind: "message"; readonly epoch: Epoch; readonly message: HandshakeMessage }
  | { readonly kind: "change_cipher_spec" };

/** The flight as datagrams of at most `datagramBytes`: messages fragmented where they must be, records packed where they fit. */
export function packFlight(flight: Flight, layer: RecordLayer, datagramBytes: number): Uint8Array[] {
  const packer = new DatagramPacker(datagramBytes);
  for (const item of flight) {
    if (item.kind === "change_cipher_spec") {
      packer.add(layer.seal(0, CONTENT_TYPES.changeCipherSpec, CHANGE_CIPHER_SPEC));
      layer.startWritingEpoch1();
    } else {
      packMessage(item.message, item.epoch, layer, packer);
    }
  }
  return packer.finish();
}

class DatagramPacker {
  readonly #datagrams: Uint8Array[] = [];
  readonly #datagramBytes: number;
  #records: Uint8Array[] = [];
  #used = 0;

  constructor(datagramBytes: number) {
    this.#datagramBytes = datagramBytes;
  }

  get roomBytes(): number {
    return this.#datagramBytes - this.#used;
  }

  add(record: Uint8Array): void {
    if (record.length > this.roomBytes) this.startDatagram();
    this.#records.push(record);
    this.#used += record.length;
  }

  startDatagram(): void {
    if (this.#records.length > 0) this.#datagrams.push(concat(...this.#records));
    this.#records = [];
    this.#used = 0;
  }

  finish(): Uint8Array[] {
    this.startDatagram();
    return this.#datagrams;
  }
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
    packer.add(layer.seal(epoch, CONTENT_TYPES.handshake, plaintext));
    offset = end;
  } while (offset < body.length);
}

export const CHANGE_CIPHER_SPEC: Uint8Array = Uint8Array.of(1);
/** Rather than a smaller fragment, a new datagram. */
const LEAST_FRAGMENT_BYTES = 32;
