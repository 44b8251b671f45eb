import { CoapError } from "../errors.js";
import { CODE } from "../wire/code.js";
import { decodeMessage, MAX_TOKEN_BYTES, type Message } from "../wire/message.js";

/**
 * Encodes a message for a reliable transport (RFC 8323 §3.2): no type and no messageId, but a length.
 *
 * ```
 * |  Len  |  TKL  | Extended Length (0, 1, 2 or 4 bytes) ... |  Code  |
 * |   Token (if any, TKL bytes) ...
 * |   Options (if any) ...
 * |1 1 1 1 1 1 1 1|    Payload (if any) ...
 * ```
 *
 * @throws CoapError COAP_INVALID_MESSAGE for a token above 8 bytes.
 */
export function encodeStreamMessage(message: Omit<Message, "type" | "messageId">): Uint8Array {
  const { code, token, options, payload } = message;
  if (token.length > MAX_TOKEN_BYTES)
    throw new CoapError("COAP_INVALID_MESSAGE", `a token has 8 bytes at most, not ${token.length}`);
  const length = options.encodedBytes + (payload.length === 0 ? 0 : 1 + payload.length);
  const extended = length < 13 ? 0 : length < 269 ? 1 : length < 65_805 ? 2 : 4;
  const bytes = new Uint8Array(2 + extended + token.length + length);
  const view = new DataView(bytes.buffer);
  const nibble = extended === 0 ? length : extended === 4 ? 15 : 12 + extended;
  bytes[0] = (nibble << 4) | token.length;
  if (extended === 1) view.setUint8(1, length - 13);
  else if (extended === 2) view.setUint16(1, length - 269);
  else if (extended === 4) view.setUint32(1, length - 65_805);
  bytes[1 + extended] = code;
  bytes.set(token, 2 + extended);
  const index = options.writeTo(bytes, 2 + extended + token.length);
  if (payload.length > 0) {
    bytes[index] = PAYLOAD_MARKER;
    bytes.set(payload, index + 1);
  }
  return bytes;
}

/** Cuts a byte stream into messages. What it keeps is bounded by the largest message that it takes, and one chunk. */
export class StreamDecoder {
  readonly #maxMessageBytes: number;
  #buffer: Uint8Array = NOTHING;
  /** Where the next message begins, and what has come ends. */
  #start = 0;
  #end = 0;

  constructor(maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** What is kept for messages that were not taken, or are not whole yet. */
  get bufferedBytes(): number {
    return this.#buffer.length;
  }

  /** The next bytes of the stream, and the messages that are whole now. @throws as `next` does */
  push(chunk: Uint8Array): StreamMessage[] {
    this.add(chunk);
    const messages: StreamMessage[] = [];
    for (let message = this.next(); message !== undefined; message = this.next()) messages.push(message);
    return messages;
  }

  /** The next bytes of the stream. */
  add(chunk: Uint8Array): void {
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    const needed = this.#end + chunk.length;
    if (needed > this.#buffer.length) {
      // Grows by doubling, so that a message in many small pieces costs no more than its bytes.
      const grown = new Uint8Array(Math.max(needed, this.#end * 2));
      grown.set(this.#buffer.subarray(0, this.#end));
      this.#buffer = grown;
    }
    this.#buffer.set(chunk, this.#end);
    this.#end = needed;
  }

  /**
   * The next message, which owns its bytes; undefined while none is whole.
   *
   * @throws CoapError COAP_FORMAT_ERROR: the connection is to be aborted (RFC 8323 §5.6), since nothing after it can be read.
   */
  next(): StreamMessage | undefined {
    const bytes = this.#buffer.subarray(this.#start, this.#end);
    const head = headOf(bytes);
    if (head !== undefined && head.bytes > this.#maxMessageBytes)
      throw new CoapError("COAP_FORMAT_ERROR", `a message of more than ${this.#maxMessageBytes} bytes`);
    if (head !== undefined && bytes.length >= head.bytes) {
      this.#start += head.bytes;
      return decode(bytes.subarray(0, head.bytes), head);
    }
    // An idle connection keeps nothing.
    if (bytes.length === 0) {
      this.#buffer = NOTHING;
      this.#start = this.#end = 0;
    }
    return undefined;
  }
}

export type StreamMessage = Omit<Message, "type" | "messageId">;

interface Head {
  /** Of the whole message. */
  readonly bytes: number;
  /** Where its code stands. */
  readonly code: number;
  readonly tokenBytes: number;
}

function headOf(bytes: Uint8Array): Head | undefined {
  const first = bytes[0];
  if (first === undefined) return undefined;
  const nibble = first >> 4;
  const tokenBytes = first & 0x0f;
  if (tokenBytes > MAX_TOKEN_BYTES) throw new CoapError("COAP_FORMAT_ERROR", "token length 9 to 15 is reserved");
  const extended = nibble < 13 ? 0 : nibble === 15 ? 4 : nibble - 12;
  if (bytes.length < 1 + extended) return undefined;
  let length = nibble;
  if (extended > 0) {
    length = [0, 13, 269, 0, 65_805][extended] ?? 0;
    let read = 0;
    for (let index = 1; index <= extended; index++) read = read * 256 + (bytes[index] ?? 0);
    length += read;
  }
  return { bytes: 2 + extended + tokenBytes + length, code: 1 + extended, tokenBytes };
}

/** By the decoder of datagrams, from the code on the format is the same. */
function decode(bytes: Uint8Array, head: Head): StreamMessage {
  const code = bytes[head.code] ?? 0;
  if (code === CODE.Empty && bytes.length > head.code + 1 + head.tokenBytes)
    throw new CoapError("COAP_FORMAT_ERROR", "an Empty message has bytes after its token");
  const datagram = new Uint8Array(bytes.length - head.code + 3);
  datagram[0] = 0x50 | head.tokenBytes;
  // A signal's and an Empty message's code have no place in a datagram; its fields are read as a request's.
  datagram[1] = code === CODE.Empty || code >> 5 === 7 ? CODE.GET : code;
  datagram.set(bytes.subarray(head.code + 1), 4);
  const { token, options, payload } = decodeMessage(datagram);
  return { code, token, options, payload };
}

const NOTHING = new Uint8Array(0);
const PAYLOAD_MARKER = 0xff;
