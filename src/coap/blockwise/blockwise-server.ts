import { NO_PAYLOAD, type RequestMessage, type ResponseMessage } from "../exchange/messages.js";
import { BERT_UNIT_BYTES, type Block, blockAt, isFull } from "../wire/block.js";
import { CODE } from "../wire/code.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import { BodyBuffer } from "./body-buffer.js";
import { entityTag } from "./entity-tag.js";
import { TransferServer } from "./transfer-server.js";
import type { Transfer } from "./transfer-table.js";

/**
 * The server half of block-wise transfers (RFC 7959): it puts request bodies together and cuts response bodies up. Each
 * message passes security checks before it comes here. No I/O; all memory is bounded by the options.
 *
 * Bodies in either direction are kept per peer, principal and operation, so that the blocks of one never meet another's.
 * The principal is whatever string the caller tells its peers' users apart by; a response is to be sent with the same.
 */
export class BlockwiseServer<P extends object> extends TransferServer<P, Transfer<P>> {
  readonly #options: BlockwiseServerOptions;

  /** `isExpendable`: peers of whom nobody knows who they are, perhaps; their bodies make way for those of the others. */
  constructor(options: Partial<BlockwiseServerOptions> = {}, isExpendable?: (peer: P) => boolean) {
    const whole = { ...DEFAULT_BLOCKWISE_SERVER_OPTIONS, ...options };
    super(whole, isExpendable);
    this.#options = whole;
  }

  /**
   * Takes a request of one message. Either it completes a request, which the application is to answer by way of
   * {@link send}; or it is answered here: a block in the middle, a later block of an earlier response, or a fault.
   */
  receive(
    peer: P,
    request: RequestMessage,
    now: number,
    principal = "",
    cutBytes: number = this.#options.blockBytes,
  ): BlockwiseInput {
    this.transfers.sweep(now);
    if (!mayBeBlock(request)) return { type: "whole", request };
    let block1: Block | undefined;
    let block2: Block | undefined;
    try {
      block1 = request.options.block1;
      block2 = request.options.block2;
    } catch {
      return answer(CODE.BadOption);
    }
    // RFC 7959 §2.2: size exponent 7 is 4.00 on datagrams.
    if ((block1?.isBert === true || block2?.isBert === true) && !isStreamCut(cutBytes)) return answer(CODE.BadRequest);
    if (block1 !== undefined) {
      return this.#receiveBlock1(peer, this.keyOf(request, principal), request, block1, now);
    }
    if (block2 !== undefined && block2.number > 0)
      return this.#receiveBlock2(peer, this.keyOf(request, principal), request, block2, cutBytes);
    return { type: "whole", request };
  }

  /**
   * The message to send for a whole response: all of it, or the block that the request asks for. The body must be left
   * unchanged while it is kept for later blocks. `maxBlockBytes` may be below the option's, for a peer that is not trusted with
   * more. A cut 2.05 without ETag gets one, so that no client mixes two states.
   */
  send(
    peer: P,
    request: RequestMessage,
    response: ResponseMessage,
    now: number,
    principal = "",
    maxBlockBytes: number = this.#options.blockBytes,
  ): ResponseMessage {
    if (!mayBeBlock(request) && response.payload.length <= maxBlockBytes) return response;
    const { block1, block2 } = request.options;
    const sizeBytes = cutOf(block2, maxBlockBytes);
    const isCut = response.payload.length > sizeBytes || (block2 !== undefined && block2.number > 0);
    let whole = isCut && response.code === CODE.Content ? withEntityTag(response) : response;
    if (isCut && response.payload.length > sizeBytes) {
      const key = this.keyOf(request, principal);
      this.transfers.keep({ type: "response", peer, key, response: whole, bytes: whole.payload.length }, now);
    }
    // RFC 7959 §2.2: the response to the last block of a request echoes its Block1.
    if (block1 !== undefined) whole = { ...whole, options: whole.options.withBlock1({ ...block1, hasMore: false }) };
    if (isCut) return slice(whole, block2 === undefined ? 0 : block2.number * block2.sizeBytes, sizeBytes);
    // RFC 7959 §4: who asks for the size is told it.
    if (request.options.size2 === 0)
      whole = { ...whole, options: whole.options.with(OPTION.Size2, whole.payload.length) };
    return block2 === undefined ? whole : { ...whole, options: whole.options.withBlock2(blockAt(0, false, sizeBytes)) };
  }

  #receiveBlock1(peer: P, key: string, request: RequestMessage, block: Block, now: number): BlockwiseInput {
    const { maxBodyBytes } = this.#options;
    const { payload, options } = request;
    const offset = block.number * block.sizeBytes;
    if (offset + payload.length > maxBodyBytes || (options.size1 ?? 0) > maxBodyBytes) {
      this.transfers.forget(peer, key);
      // RFC 7959 §2.9.3: 4.13 tells the limit in Size1.
      return answer(CODE.RequestEntityTooLarge, Options.none.with(OPTION.Size1, maxBodyBytes));
    }
    // RFC 7959 §2.2: only the last block may be short, and none is longer than its size.
    if (!isFull(block, payload.length)) return answer(CODE.BadRequest);
    const kept = this.transfers.find(peer, key);
    const isContinued = kept?.type === "request" && kept.body.length === offset && block.number > 0;
    if (block.number > 0 && !isContinued) {
      // RFC 7959 §2.9.2: blocks are missing, or of another body.
      this.transfers.forget(peer, key);
      return answer(CODE.RequestEntityIncomplete);
    }
    const body = isContinued ? kept.body : new BodyBuffer(payload.length);
    const isIfNoneMatch = (isContinued && kept.isIfNoneMatch) || options.has(OPTION.IfNoneMatch);
    if (!block.hasMore) {
      this.transfers.forget(peer, key);
      body.append(payload);
      const all = isIfNoneMatch ? options.with(OPTION.IfNoneMatch, NO_PAYLOAD) : options;
      return { type: "whole", request: { ...request, options: all, payload: body.body() } };
    }
    const bytes = body.capacityWith(payload.length);
    const transfer: Transfer<P> = { type: "request", peer, key, body, bytes, isIfNoneMatch };
    if (!this.transfers.keep(transfer, now)) return { type: "answer", response: this.noRoom() };
    body.append(payload);
    // RFC 7959 §2.3: a smaller size in the answer asks for smaller blocks.
    const sizeBytes = Math.min(block.sizeBytes, this.#options.blockBytes);
    return answer(CODE.Continue, Options.none.withBlock1({ ...block, hasMore: true, sizeBytes }));
  }

  #receiveBlock2(peer: P, key: string, request: RequestMessage, block: Block, cutBytes: number): BlockwiseInput {
    const kept = this.transfers.find(peer, key);
    if (kept?.type === "response") {
      const response = slice(kept.response, block.number * block.sizeBytes, cutOf(block, cutBytes));
      // Whoever has the last block has all; a lost answer is repeated by the message layer.
      if (response.options.block2?.hasMore !== true) this.transfers.forget(peer, key);
      return { type: "answer", response };
    }
    // What is not kept any more is made anew where that does no harm; `send` cuts it where this block begins.
    if (request.code === CODE.GET || request.code === CODE.FETCH) return { type: "whole", request };
    return answer(CODE.RequestEntityIncomplete);
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
  /**
   * Default 16 MiB of bodies under way in all. Beyond it kept responses make way for request bodies, and of those the ones of
   * expendable peers for others'; then a transfer is refused with 5.03.
   */
  readonly maxBufferedBytes: number;
  /** Default 247 s (EXCHANGE_LIFETIME, RFC 7959 §2.5) since a transfer's last block. */
  readonly lifetimeMs: number;
  /**
   * Options that differ between the blocks of one operation, such as credentials. Default none. Where they tell users
   * apart, the calls must name the principal.
   */
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

/** Nearly all requests have none of Block1, Block2 and Size2, of whose numbers Block2's is the lowest. */
function mayBeBlock({ options }: RequestMessage): boolean {
  return options.highestNumber >= OPTION.Block2;
}

/** How many bytes the answer's block may hold: what the request asks for, within what the peer and the transport take. */
function cutOf(block2: Block | undefined, cutBytes: number): number {
  return block2 === undefined || block2.isBert === true ? cutBytes : Math.min(block2.sizeBytes, cutBytes);
}

/** Datagrams are cut into at most 1024 bytes. A multiple of them, or no cut at all, is a reliable transport's. */
function isStreamCut(cutBytes: number): boolean {
  return cutBytes > BERT_UNIT_BYTES;
}

/** The block that begins at `offset`; 4.02 past the end. The first tells the whole size (RFC 7959 §4). */
function slice(response: ResponseMessage, offset: number, sizeBytes: number): ResponseMessage {
  const { payload } = response;
  if (offset >= payload.length && offset > 0)
    return { code: CODE.BadOption, options: Options.none, payload: NO_PAYLOAD };
  const end = Math.min(offset + sizeBytes, payload.length);
  const options = response.options.withBlock2(blockAt(offset, end < payload.length, sizeBytes));
  return {
    code: response.code,
    options: offset === 0 ? options.with(OPTION.Size2, payload.length) : options,
    payload: payload.subarray(offset, end),
  };
}

function withEntityTag(response: ResponseMessage): ResponseMessage {
  const { options, payload } = response;
  if (options.etag !== undefined) return response;
  return { ...response, options: options.with(OPTION.ETag, entityTag(payload, options.contentFormat)) };
}

function answer(code: number, options: Options = Options.none): BlockwiseInput {
  return { type: "answer", response: { code, options, payload: NO_PAYLOAD } };
}
