import type { SocketAddress } from "./udp-socket.js";

/**
 * A datagram on its way between two processes of one server, with the address that it came from:
 *
 * ```
 *  length of the rest (2) | kind (1) | port (2) | length of the address (1) | address, text | datagram
 * ```
 *
 * Undefined for a datagram that is too long for it: nothing that DTLS sends is.
 */
export function encodeSteeredFrame(kind: SteeredKind, from: SocketAddress, datagram: Uint8Array): Buffer | undefined {
  const { address, port } = from;
  const length = HEAD_BYTES - LENGTH_BYTES + address.length + datagram.length;
  if (length > MAX_LENGTH || address.length > 255) return undefined;
  const frame = Buffer.allocUnsafe(LENGTH_BYTES + length);
  frame.writeUInt16BE(length, 0);
  frame[2] = KINDS.indexOf(kind);
  frame.writeUInt16BE(port, 3);
  frame[5] = address.length;
  frame.write(address, HEAD_BYTES, "latin1");
  frame.set(datagram, HEAD_BYTES + address.length);
  return frame;
}

/** Takes a stream apart into its frames. What is none ends at the length that it names. */
export class SteeredFrameReader {
  readonly #onFrame: (frame: SteeredFrame) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(onFrame: (frame: SteeredFrame) => void) {
    this.#onFrame = onFrame;
  }

  take(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + bytes.readUInt16BE(at);
      if (end > bytes.length) break;
      const frame = decode(bytes.subarray(at, end));
      if (frame !== undefined) this.#onFrame(frame);
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }
}

/** From an address that the owner did not confirm yet, or did; or the confirmation of one, without a datagram. */
export type SteeredKind = (typeof KINDS)[number];

export interface SteeredFrame {
  readonly kind: SteeredKind;
  readonly from: SocketAddress;
  readonly datagram: Uint8Array;
}

function decode(frame: Buffer): SteeredFrame | undefined {
  const kind = KINDS[frame[2] ?? KINDS.length];
  const addressEnd = HEAD_BYTES + (frame[5] ?? 0);
  if (kind === undefined || frame.length < HEAD_BYTES || addressEnd > frame.length) return undefined;
  const from = { address: frame.toString("latin1", HEAD_BYTES, addressEnd), port: frame.readUInt16BE(3) };
  return { kind, from, datagram: frame.subarray(addressEnd) };
}

const KINDS = ["stranger", "known", "confirmed"] as const;
const LENGTH_BYTES = 2;
const HEAD_BYTES = 6;
const MAX_LENGTH = 0xffff;
