import { CoapError } from "../errors.js";
import type { RequestMessage, ResponseMessage } from "../exchange/messages.js";
import { type Block, BLOCK_SIZES_BYTES, MAX_BLOCK_NUMBER } from "../wire/block.js";
import { CODE, isSuccessCode } from "../wire/code.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import { operationKey } from "./cache-key.js";

/**
 * The server half of block-wise transfers (RFC 7959): it puts request bodies together and cuts response bodies up. Each
 * message passes security checks before it comes here. No I/O; all memory is bounded by the options.
 *
 * Bodies in either direction are kept per peer and operation, so that one peer's blocks never meet another's.
 */
export class BlockwiseServer<P extends object> {
  readonly #options: BlockwiseServerOptions;
  readonly #ignored: ReadonlySet<number>;
  readonly #peers = new Map<P, Map<string, Transfer>>();
  #bufferedBytes = 0;

  constructor(options: Partial<BlockwiseServerOptions> = {}) {
    this.#options = { ...DEFAULT_BLOCKWISE_SERVER_OPTIONS, ...options };
    this.#ignored = new Set(this.#options.optionsOutsideOperation);
  }

  /** Bytes of bodies in memory, in both directions. */
  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /**
   * Takes a request of one message. Either it completes a request, which the application is to answer by way of
   * {@link send}; or it is answered here: a block in the middle, a later block of an earlier response, or a fault.
   */
  receive(peer: P, request: RequestMessage, now: number): BlockwiseInput {
    this.#forgetOld(peer, now);
    let block1: Block | undefined;
    let block2: Block | undefined;
    try {
      block1 = request.options.block1;
      block2 = request.options.block2;
    } catch {
      return answer(CODE.BadOption);
    }
    const key = operationKey(request.code, request.options, this.#ignored);
    if (block1 !== undefined) return this.#receiveBlock1(peer, key, request, block1, now);
    if (block2 !== undefined && block2.number > 0) {
      const transfer = this.#peers.get(peer)?.get(key);
      // A response not kept any more is made anew: GET and FETCH may be, and the slice is cut in `send`.
      if (transfer?.type === "response") return { type: "answer", response: slice(transfer.response, block2) };
      if (request.code !== CODE.GET && request.code !== CODE.FETCH) return answer(CODE.RequestEntityIncomplete);
    }
    return { type: "whole", request };
  }

  /** The message to send for a whole response: all of it, or the block that the request asks for. */
  send(peer: P, request: RequestMessage, response: ResponseMessage, now: number): ResponseMessage {
    const block1 = request.options.block1;
    const block2 = request.options.block2;
    if (block1 === undefined && block2 === undefined && response.payload.length <= this.#options.blockBytes)
      return response;
    // RFC 7959 §2.2: the response to the last block of a request echoes its Block1.
    const options =
      block1 === undefined ? response.options : response.options.withBlock1({ ...block1, hasMore: false });
    const whole: ResponseMessage = { ...response, options };
    const sizeBytes = Math.min(block2?.sizeBytes ?? this.#options.blockBytes, this.#options.blockBytes);
    if (response.payload.length <= sizeBytes && (block2 === undefined || block2.number === 0)) {
      return block2 === undefined
        ? whole
        : { ...whole, options: options.withBlock2({ number: 0, hasMore: false, sizeBytes }) };
    }
    const first = slice(whole, { number: block2?.number ?? 0, hasMore: false, sizeBytes });
    if (isSuccessCode(response.code) && first.options.block2?.hasMore === true) {
      const key = operationKey(request.code, request.options, this.#ignored);
      this.#keep(peer, key, {
        type: "response",
        response,
        bytes: response.payload.length,
        expiresAt: now + this.#options.lifetimeMs,
      });
    }
    return first;
  }

  /** Frees what a peer that is gone had begun. */
  closePeer(peer: P): void {
    for (const key of this.#peers.get(peer)?.keys() ?? []) this.#forget(peer, key);
  }

  /** Frees what has expired at `now`; call it now and then. */
  sweep(now: number): void {
    for (const peer of this.#peers.keys()) this.#forgetOld(peer, now);
  }

  #receiveBlock1(peer: P, key: string, request: RequestMessage, block: Block, now: number): BlockwiseInput {
    const { maxBodyBytes } = this.#options;
    const offset = block.number * block.sizeBytes;
    const declared = request.options.uint(OPTION.Size1);
    if (offset + request.payload.length > maxBodyBytes || (declared !== undefined && declared > maxBodyBytes)) {
      this.#forget(peer, key);
      // RFC 7959 §2.9.3: 4.13 tells the limit in Size1.
      return answer(CODE.RequestEntityTooLarge, Options.none.with(OPTION.Size1, maxBodyBytes));
    }
    if (block.hasMore && request.payload.length !== block.sizeBytes) return answer(CODE.BadRequest);
    const kept = this.#peers.get(peer)?.get(key);
    let blocks: readonly Uint8Array[] = [];
    let received = 0;
    if (block.number > 0) {
      if (kept?.type !== "request" || kept.bytes !== offset || kept.contentFormat !== request.options.contentFormat) {
        // RFC 7959 §2.9.2: blocks are missing, or of another body.
        this.#forget(peer, key);
        return answer(CODE.RequestEntityIncomplete);
      }
      blocks = kept.blocks;
      received = kept.bytes;
    }
    if (!block.hasMore) {
      this.#forget(peer, key);
      return { type: "whole", request: { ...request, payload: joined([...blocks, request.payload]) } };
    }
    const transfer: Transfer = {
      type: "request",
      blocks: [...blocks, request.payload.slice()],
      contentFormat: request.options.contentFormat,
      bytes: received + request.payload.length,
      expiresAt: now + this.#options.lifetimeMs,
    };
    if (!this.#keep(peer, key, transfer)) {
      this.#forget(peer, key);
      return answer(
        CODE.ServiceUnavailable,
        Options.none.with(OPTION.MaxAge, Math.ceil(this.#options.lifetimeMs / 1000)),
      );
    }
    const sizeBytes = Math.min(block.sizeBytes, this.#options.blockBytes);
    return answer(CODE.Continue, Options.none.withBlock1({ number: block.number, hasMore: true, sizeBytes }));
  }

  /** Returns whether there is room; a peer's oldest transfers make way for its newer ones, never another peer's. */
  #keep(peer: P, key: string, transfer: Transfer): boolean {
    this.#forget(peer, key);
    const transfers = this.#peers.get(peer) ?? new Map<string, Transfer>();
    for (const oldest of transfers.keys()) {
      if (transfers.size < this.#options.maxTransfersPerPeer) break;
      this.#forget(peer, oldest);
    }
    if (this.#bufferedBytes + transfer.bytes > this.#options.maxBufferedBytes) return false;
    transfers.set(key, transfer);
    this.#peers.set(peer, transfers);
    this.#bufferedBytes += transfer.bytes;
    return true;
  }

  #forgetOld(peer: P, now: number): void {
    for (const [key, transfer] of this.#peers.get(peer) ?? []) if (transfer.expiresAt <= now) this.#forget(peer, key);
  }

  #forget(peer: P, key: string): void {
    const transfers = this.#peers.get(peer);
    const transfer = transfers?.get(key);
    if (transfers === undefined || transfer === undefined) return;
    this.#bufferedBytes -= transfer.bytes;
    transfers.delete(key);
    if (transfers.size === 0) this.#peers.delete(peer);
  }
}

export type BlockwiseInput =
  | { readonly type: "whole"; readonly request: RequestMessage }
  | { readonly type: "answer"; readonly response: ResponseMessage };

export interface BlockwiseServerOptions {
  /** Default 1024: the largest block sent or asked for; a power of two from 16. */
  readonly blockBytes: number;
  /** Default 64 KiB: a longer request body is refused with 4.13. */
  readonly maxBodyBytes: number;
  /** Default 4 transfers under way per peer; the oldest is dropped for a newer one. */
  readonly maxTransfersPerPeer: number;
  /** Default 16 MiB of bodies under way in all; beyond it a transfer is refused with 5.03. */
  readonly maxBufferedBytes: number;
  /** Default 247 s (EXCHANGE_LIFETIME, RFC 7959 §2.5) since a transfer's last block. */
  readonly lifetimeMs: number;
  /** Options that differ between the blocks of one operation, such as credentials. Default none. */
  readonly optionsOutsideOperation: readonly number[];
}

export const DEFAULT_BLOCKWISE_SERVER_OPTIONS: BlockwiseServerOptions = {
  blockBytes: 1024,
  maxBodyBytes: 65_536,
  maxTransfersPerPeer: 4,
  maxBufferedBytes: 16 * 1024 * 1024,
  lifetimeMs: 247_000,
  optionsOutsideOperation: [],
};

/** A body under way. */
type Transfer =
  | {
      readonly type: "request";
      readonly blocks: readonly Uint8Array[];
      readonly contentFormat: number | undefined;
      readonly bytes: number;
      readonly expiresAt: number;
    }
  | {
      readonly type: "response";
      readonly response: ResponseMessage;
      readonly bytes: number;
      readonly expiresAt: number;
    };

/** The block of a whole response; 4.02 past its end. The first tells the whole size (RFC 7959 §4). */
function slice(response: ResponseMessage, block: Block): ResponseMessage {
  const { payload } = response;
  const offset = block.number * block.sizeBytes;
  if (offset >= payload.length && block.number > 0)
    return { code: CODE.BadOption, options: Options.none, payload: new Uint8Array(0) };
  const end = Math.min(offset + block.sizeBytes, payload.length);
  let options = response.options.withBlock2({ ...block, hasMore: end < payload.length });
  if (block.number === 0) options = options.with(OPTION.Size2, payload.length);
  return { code: response.code, options, payload: payload.subarray(offset, end) };
}

function answer(code: number, options: Options = Options.none): BlockwiseInput {
  return { type: "answer", response: { code, options, payload: new Uint8Array(0) } };
}

/** The blocks as one body, a copy. */
export function joined(blocks: readonly Uint8Array[]): Uint8Array {
  const [only] = blocks;
  if (blocks.length === 1 && only !== undefined) return only;
  const body = new Uint8Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let offset = 0;
  for (const block of blocks) {
    body.set(block, offset);
    offset += block.length;
  }
  return body;
}

/** @throws CoapError COAP_INVALID_MESSAGE for a size that is none, or a body of more blocks than can be numbered. */
export function checkBlockable(bodyBytes: number, blockBytes: number): void {
  if (!BLOCK_SIZES_BYTES.includes(blockBytes))
    throw new CoapError("COAP_INVALID_MESSAGE", `${blockBytes} is no block size`);
  if (bodyBytes > (MAX_BLOCK_NUMBER + 1) * blockBytes) {
    throw new CoapError("COAP_BODY_TOO_LARGE", `${bodyBytes} bytes do not fit in blocks of ${blockBytes}`);
  }
}
