import { CoapError } from "../errors.js";
import { isRequestCode, isResponseCode } from "./code.js";
import { type Option, Options } from "./options.js";

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

/**
 * Decodes one datagram. Token, option values and payload are views of `datagram`.
 *
 * @throws CoapError COAP_FORMAT_ERROR: the message is to be rejected (RFC 7252 §4.2), by Reset if it was Confirmable.
 */
export function decodeMessage(datagram: Uint8Array): Message {
  const header = decodeHeader(datagram);
  if (header === undefined) throw malformed("shorter than a header, or of another version");
  const tokenLength = (datagram[0] ?? 0) & 0x0f;
  if (tokenLength > MAX_TOKEN_BYTES) throw malformed("token length 9 to 15 is reserved");
  const { type, code, messageId } = header;
  if (code === 0 && datagram.length > HEADER_BYTES) throw malformed("an Empty message has bytes after its header");
  if (code === 0 && type === MESSAGE_TYPE.NonConfirmable) throw malformed("an Empty message is never Non-confirmable");
  if (code !== 0 && !isRequestCode(code) && !isResponseCode(code)) throw malformed("the code's class is reserved");
  if (code !== 0 && type === MESSAGE_TYPE.Reset) throw malformed("a Reset is always Empty");
  if (type === MESSAGE_TYPE.Acknowledgement && isRequestCode(code))
    throw malformed("an Acknowledgement carries no request");
  const tokenEnd = HEADER_BYTES + tokenLength;
  if (tokenEnd > datagram.length) throw malformed("the token is cut off");

  const options: Option[] = [];
  let number = 0;
  let index = tokenEnd;
  while (index < datagram.length) {
    const first = datagram[index++] ?? 0;
    if (first === PAYLOAD_MARKER) {
      if (index === datagram.length) throw malformed("a payload marker with no payload");
      break;
    }
    let delta = first >> 4;
    let length = first & 0x0f;
    if (delta === 15 || length === 15) throw malformed("option delta or length 15 is reserved");
    if (delta === 13) delta = 13 + byteAt(datagram, index++);
    else if (delta === 14) delta = 269 + byteAt(datagram, index++) * 256 + byteAt(datagram, index++);
    if (length === 13) length = 13 + byteAt(datagram, index++);
    else if (length === 14) length = 269 + byteAt(datagram, index++) * 256 + byteAt(datagram, index++);
    number += delta;
    if (number > MAX_OPTION_NUMBER) throw malformed("an option number above 65535");
    const end = index + length;
    if (end > datagram.length) throw malformed("an option is cut off");
    options.push({ number, value: datagram.subarray(index, end) });
    index = end;
  }
  return {
    type,
    code,
    messageId,
    token: tokenLength === 0 ? NO_BYTES : datagram.subarray(HEADER_BYTES, tokenEnd),
    options: Options.ofSorted(options),
    payload: index === datagram.length ? NO_BYTES : datagram.subarray(index),
  };
}

/** The fixed fields, readable even where the rest is malformed; undefined when it is no CoAP message at all (§3: version). */
export function decodeHeader(datagram: Uint8Array): Pick<Message, "type" | "code" | "messageId"> | undefined {
  const [first, code, high, low] = datagram;
  if (first === undefined || code === undefined || high === undefined || low === undefined) return undefined;
  if (first >> 6 !== VERSION) return undefined;
  return { type: ((first >> 4) & 3) as MessageType, code, messageId: high * 256 + low };
}

/** @throws CoapError COAP_INVALID_MESSAGE for a token above 8 bytes, a messageId or an option out of range. */
export function encodeMessage(message: Message): Uint8Array {
  const { token, options, payload, messageId } = message;
  if (token.length > MAX_TOKEN_BYTES) throw invalid(`a token has 8 bytes at most, not ${token.length}`);
  if (!Number.isInteger(messageId) || messageId < 0 || messageId > 0xffff) throw invalid(`no messageId: ${messageId}`);
  let length = HEADER_BYTES + token.length + (payload.length > 0 ? 1 + payload.length : 0);
  let previous = 0;
  for (const { number, value } of options) {
    if (number > MAX_OPTION_NUMBER || value.length > MAX_OPTION_BYTES)
      throw invalid(`option ${number} is out of range`);
    length += 1 + extendedBytes(number - previous) + extendedBytes(value.length) + value.length;
    previous = number;
  }
  const bytes = new Uint8Array(length);
  bytes[0] = (VERSION << 6) | (message.type << 4) | token.length;
  bytes[1] = message.code;
  bytes[2] = messageId >> 8;
  bytes[3] = messageId & 0xff;
  bytes.set(token, HEADER_BYTES);
  let index = HEADER_BYTES + token.length;
  previous = 0;
  for (const { number, value } of options) {
    const delta = number - previous;
    bytes[index++] = (nibble(delta) << 4) | nibble(value.length);
    index = writeExtended(bytes, index, delta);
    index = writeExtended(bytes, index, value.length);
    bytes.set(value, index);
    index += value.length;
    previous = number;
  }
  if (payload.length > 0) {
    bytes[index++] = PAYLOAD_MARKER;
    bytes.set(payload, index);
  }
  return bytes;
}

/** An Empty message: an Acknowledgement or a Reset, or as Confirmable a ping (RFC 7252 §4.1, §4.3). */
export function encodeEmpty(type: MessageType, messageId: number): Uint8Array {
  return Uint8Array.of((VERSION << 6) | (type << 4), 0, messageId >> 8, messageId & 0xff);
}

function nibble(value: number): number {
  return value < 13 ? value : value < 269 ? 13 : 14;
}

function extendedBytes(value: number): number {
  return value < 13 ? 0 : value < 269 ? 1 : 2;
}

function writeExtended(bytes: Uint8Array, index: number, value: number): number {
  if (value < 13) return index;
  if (value < 269) {
    bytes[index] = value - 13;
    return index + 1;
  }
  bytes[index] = (value - 269) >> 8;
  bytes[index + 1] = (value - 269) & 0xff;
  return index + 2;
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
const VERSION = 1;
const HEADER_BYTES = 4;
const PAYLOAD_MARKER = 0xff;
const MAX_OPTION_NUMBER = 0xffff;
const MAX_OPTION_BYTES = 0xffff + 269;
const NO_BYTES = new Uint8Array(0);
