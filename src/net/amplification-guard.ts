import { createHmac, createSecretKey, randomBytes, timingSafeEqual } from "node:crypto";
import {
  BLOCK_SIZES_BYTES,
  CODE,
  emptyResponse,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { formatAddress, type SocketAddress } from "./udp-socket.js";

/**
 * Keeps a server from being used to flood a third party over plain UDP (RFC 7252 §11.3, RFC 9175 §2.4): a large answer is
 * given only where the address has echoed a value that was sent to it. Nothing is kept for it: the value holds its own time
 * and a MAC over that and the address.
 */
export class AmplificationGuard {
  readonly #factor: number;
  readonly #key = createSecretKey(randomBytes(32));

  constructor(factor: number) {
    this.#factor = factor;
  }

  /** What may be sent for a request to an address that may be forged. */
  allowedBytes(request: RequestMessage): number {
    return Math.max(this.#factor * sizeOf(request), ALWAYS_ALLOWED_BYTES);
  }

  /**
   * Whether the response is too much for an address that anybody may have written on the request, and the request can be
   * sent again: it only read, or was refused.
   */
  needsProof(request: RequestMessage, response: ResponseMessage): boolean {
    const bytes = sizeOf(response);
    const isRepeatable = isSafe(request.code) || response.code >> 5 === 4;
    return bytes > ALWAYS_ALLOWED_BYTES && isRepeatable && bytes > this.allowedBytes(request);
  }

  /** The largest block for the answer to a request; undefined: any, as it can be asked for again with a proof. */
  maxBlockBytes(request: RequestMessage): number | undefined {
    return isSafe(request.code) ? undefined : this.maxNotifiedBytes(request);
  }

  /** The largest block for what nobody asks for again: the answer to a request that has been carried out, a notification. */
  maxNotifiedBytes(request: RequestMessage): number {
    const room = this.allowedBytes(request) - OPTIONS_OF_A_BLOCK_BYTES;
    return BLOCK_SIZES_BYTES.findLast((size) => size <= room) ?? 16;
  }

  /** 4.01 with a value to echo. */
  demand(remote: SocketAddress, now: number): ResponseMessage {
    const value = new Uint8Array(ECHO_BYTES);
    new DataView(value.buffer).setFloat64(0, now);
    value.set(this.#mac(value.subarray(0, TIME_BYTES), remote), TIME_BYTES);
    return emptyResponse(CODE.Unauthorized, Options.none.with(OPTION.Echo, value));
  }

  /** Whether the request echoes a value that this address was sent of late. */
  isProof(request: RequestMessage, remote: SocketAddress, now: number): boolean {
    const value = request.options.get(OPTION.Echo);
    if (value?.length !== ECHO_BYTES) return false;
    const time = value.subarray(0, TIME_BYTES);
    if (!timingSafeEqual(value.subarray(TIME_BYTES), this.#mac(time, remote))) return false;
    const sentAt = new DataView(value.buffer, value.byteOffset).getFloat64(0);
    return now - sentAt <= LIFETIME_MS;
  }

  #mac(time: Uint8Array, remote: SocketAddress): Uint8Array {
    return createHmac("sha256", this.#key).update(time).update(formatAddress(remote)).digest().subarray(0, MAC_BYTES);
  }
}

function isSafe(code: number): boolean {
  return code === CODE.GET || code === CODE.FETCH;
}

function sizeOf({ options, payload }: RequestMessage | ResponseMessage): number {
  return HEADER_AND_TOKEN_BYTES + options.encodedBytes + (payload.length === 0 ? 0 : payload.length + 1);
}

const HEADER_AND_TOKEN_BYTES = 8;
const OPTIONS_OF_A_BLOCK_BYTES = 40;
/** As much as the demand and the request with it cost anyway (RFC 9175 §2.4 names it). */
const ALWAYS_ALLOWED_BYTES = 136;
const TIME_BYTES = 8;
const MAC_BYTES = 8;
const ECHO_BYTES = TIME_BYTES + MAC_BYTES;
/** A round trip with all retransmissions takes less (MAX_TRANSMIT_WAIT and two latencies). */
const LIFETIME_MS = 300_000;
