import { CoapError } from "../errors.js";
import { isRequestCode, isResponseCode } from "./code.js";
import { copyBytes } from "./option-encoding.js";
import { MAX_OPTION_NUMBER, Options } from "./options.js";

/**
 * A CoAP message over UDP or DTLS (RFC 7252 §3):
 *
 * ```
 *  0                   1                   2                   3
 * |Ver| T |  TKL  |      Code     |          Message ID           |
 * |   Token (if any, TKL bytes) ...
 * |   Options (if any) ...
 * |1 1 1 1 1 1 1 1|    Payload (if any) ...
 * ```
 */
export interface Message {
  readonly type: MessageType;
  readonly code: number;
  /** 0 to 65535. */
  readonly messageId: number;
  /** 0 to 8 bytes. */
  readonly token: Uint8Array;
  readonly options: Options;
  readonly payload: Uint8Array;
}

/** The numbers of the Type field. */
export const MESSAGE_TYPE = { Confirmable: 0, NonConfirmable: 1, Acknowledgement: 2, Reset: 3 } as const;
export type MessageType = (typeof MESSAGE_TYPE)[keyof typeof MESSAGE_TYPE];

/** A message as it came: its token, which mostly goes back as it is, is made a view only where it is asked for. */
export class ReceivedMessage implements Message {
  readonly type: MessageType;
  readonly code: number;
  readonly messageId: number;
  readonly tokenBytes: number;
  readonly options: Options;
  readonly payload: Uint8Array;
  readonly #datagram: Uint8Array;

  constructor(datagram: Uint8Array, type: MessageType, tokenBytes: number, options: Options, payload: Uint8Array) {
    this.type = type;
    this.code = datagram[1] ?? 0;
    this.messageId = (datagram[2] ?? 0) * 256 + (datagram[3] ?? 0);
    this.tokenBytes = tokenBytes;
    this.options = options;
    this.payload = payload;
    this.#datagram = datagram;
  }

  get token(): Uint8Array {
    return this.tokenBytes === 0 ? NO_BYTES : this.#datagram.subarray(HEADER_BYTES, HEADER_BYTES + this.tokenBytes);
  }

  /** Copies the token to `target`; returns the index after it. */
  writeToken(target: Uint8Array, index: number): number {
    return copyBytes(this.#datagram, HEADER_BYTES, HEADER_BYTES + this.tokenBytes, target, index);
  }
}

/**
 * Decodes one datagram. Token, option values and payload are views of `datagram`.
 *
 * @throws CoapError COAP_FORMAT_ERROR: the message is to be rejected (RFC 7252 §4.2), by Reset if it was Confirmable.
 */
export function decodeMessage(datagram: Uint8Array): Message {
  const { type, code, messageId, token, options, payload } = receiveMessage(datagram);
  return { type, code, messageId, token, options, payload };
}

/** As {@link decodeMessage}. */
export function receiveMessage(datagram: Uint8Array): ReceivedMessage {
  const { length } = datagram;
  const first = datagram[0] ?? 0;
  const code = datagram[1] ?? 0;
  if (length < HEADER_BYTES || first >> 6 !== VERSION) throw malformed("shorter than a header, or of another version");
  const type = ((first >> 4) & 3) as MessageType;
  const tokenEnd = HEADER_BYTES + (first & 0x0f);
  if (tokenEnd > HEADER_BYTES + MAX_TOKEN_BYTES) throw malformed("token length 9 to 15 is reserved");
  if (tokenEnd > length) throw malformed("the token is cut off");
  const fault = faultOfCode(type, code, length);
  if (fault !== undefined) throw malformed(fault);

  let places: number[] | undefined;
  let number = 0;
  let index = tokenEnd;
  let optionsEnd = length;
  while (index < length) {
    const head = datagram[index++] ?? 0;
    if (head === PAYLOAD_MARKER) {
      if (index === length) throw malformed("a payload marker with no payload");
      optionsEnd = index - 1;
      break;
    }
    let delta = head >> 4;
    let valueLength = head & 0x0f;
    if (delta === 15 || valueLength === 15) throw malformed("option delta or length 15 is reserved");
    if (delta === 13) delta = 13 + byteAt(datagram, index++);
    else if (delta === 14) delta = 269 + byteAt(datagram, index++) * 256 + byteAt(datagram, index++);
    if (valueLength === 13) valueLength = 13 + byteAt(datagram, index++);
    else if (valueLength === 14) valueLength = 269 + byteAt(datagram, index++) * 256 + byteAt(datagram, index++);
    number += delta;
    if (number > MAX_OPTION_NUMBER) throw malformed("an option number above 65535");
    const end = index + valueLength;
    if (end > length) throw malformed("an option is cut off");
    // A literal of three takes no more than that; an empty array that is added to makes room for 17.
    if (places === undefined) places = [number, index, end];
    else places.push(number, index, end);
    index = end;
  }
  return new ReceivedMessage(
    datagram,
    type,
    tokenEnd - HEADER_BYTES,
    places === undefined ? Options.none : Options.ofEncoded(datagram, tokenEnd, optionsEnd, places),
    index === length ? NO_BYTES : datagram.subarray(index),
  );
}

/** The fixed fields, readable even where the rest is malformed; undefined when it is no CoAP message at all (§3: version). */
export function decodeHeader(datagram: Uint8Array): Pick<Message, "type" | "code" | "messageId"> | undefined {
  const [first, code, high, low] = datagram;
  if (first === undefined || code === undefined || high === undefined || low === undefined) return undefined;
  if (first >> 6 !== VERSION) return undefined;
  return { type: ((first >> 4) & 3) as MessageType, code, messageId: high * 256 + low };
}

/** @throws CoapError COAP_INVALID_MESSAGE for a token above 8 bytes, a messageId or a code out of range. */
export function encodeMessage(message: Message, allocate: Allocate = ownArray): Uint8Array {
  const { token } = message;
  if (token.length > MAX_TOKEN_BYTES) throw invalid(`a token has 8 bytes at most, not ${token.length}`);
  const bytes = encodeHeader(message.type, message.messageId, token.length, message, allocate);
  encodeRest(bytes, copyBytes(token, 0, token.length, bytes, HEADER_BYTES), message);
  return bytes;
}

/** The response to a request, with its token. @throws CoapError COAP_INVALID_MESSAGE for a code out of range. */
export function encodeResponse(
  request: ReceivedMessage,
  type: MessageType,
  messageId: number,
  response: Pick<Message, "code" | "options" | "payload">,
  allocate: Allocate = ownArray,
): Uint8Array {
  const bytes = encodeHeader(type, messageId, request.tokenBytes, response, allocate);
  encodeRest(bytes, request.writeToken(bytes, HEADER_BYTES), response);
  return bytes;
}

/** Makes the array that a message of so many bytes is written to. It need not be zeroed: all of it is written. */
export type Allocate = (bytes: number) => Uint8Array;

export const ownArray: Allocate = (bytes) => new Uint8Array(bytes);

/** An array for the whole message, with its first bytes. */
function encodeHeader(
  type: MessageType,
  messageId: number,
  tokenBytes: number,
  { code, options, payload }: Pick<Message, "code" | "options" | "payload">,
  allocate: Allocate,
): Uint8Array {
  if (!Number.isInteger(messageId) || messageId < 0 || messageId > 0xffff) throw invalid(`no messageId: ${messageId}`);
  if (!Number.isInteger(code) || code < 0 || code > 0xff) throw invalid(`no code: ${code}`);
  const payloadBytes = payload.length > 0 ? 1 + payload.length : 0;
  const bytes = allocate(HEADER_BYTES + tokenBytes + options.encodedBytes + payloadBytes);
  bytes[0] = (VERSION << 6) | (type << 4) | tokenBytes;
  bytes[1] = code;
  bytes[2] = messageId >> 8;
  bytes[3] = messageId & 0xff;
  return bytes;
}

/** Options and payload, from `start` on. */
function encodeRest(
  bytes: Uint8Array,
  start: number,
  { options, payload }: Pick<Message, "options" | "payload">,
): void {
  let index = options.writeTo(bytes, start);
  if (payload.length > 0) {
    bytes[index++] = PAYLOAD_MARKER;
    copyBytes(payload, 0, payload.length, bytes, index);
  }
}

/** An Empty message: an Acknowledgement or a Reset, or as Confirmable a ping (RFC 7252 §4.1, §4.3). */
export function encodeEmpty(type: MessageType, messageId: number, allocate: Allocate = ownArray): Uint8Array {
  const bytes = allocate(HEADER_BYTES);
  bytes[0] = (VERSION << 6) | (type << 4);
  bytes[1] = 0;
  bytes[2] = messageId >> 8;
  bytes[3] = messageId & 0xff;
  return bytes;
}

/** What is wrong with a message's code by its type, if anything is (RFC 7252 §4.1–§4.3). */
function faultOfCode(type: MessageType, code: number, length: number): string | undefined {
  if (code === 0) {
    if (length > HEADER_BYTES) return "an Empty message has bytes after its header";
    return type === MESSAGE_TYPE.NonConfirmable ? "an Empty message is never Non-confirmable" : undefined;
  }
  if (type === MESSAGE_TYPE.Reset) return "a Reset is always Empty";
  if (isRequestCode(code))
    return type === MESSAGE_TYPE.Acknowledgement ? "an Acknowledgement carries no request" : undefined;
  return isResponseCode(code) ? undefined : "the code's class is reserved";
}

function byteAt(datagram: Uint8Array, index: number): number {
  const byte = datagram[index];
  if (byte === undefined) throw malformed("an option's header is cut off");
  return byte;
}

function malformed(what: string): CoapError {
  return new CoapError("COAP_FORMAT_ERROR", `malformed CoAP message: ${what}`);
}

function invalid(what: string): CoapError {
  return new CoapError("COAP_INVALID_MESSAGE", what);
}

export const MAX_TOKEN_BYTES = 8;
/** A message of up to so many is short: an endpoint that is to send one again keeps a copy of it. */
export const SHORT_MESSAGE_BYTES = 64;
const VERSION = 1;
const HEADER_BYTES = 4;
const PAYLOAD_MARKER = 0xff;
const NO_BYTES = new Uint8Array(0);
