import { CoapError } from "../errors.js";
import { type RequestMessage, NO_PAYLOAD, type ResponseMessage } from "../exchange/messages.js";
import { BERT_UNIT_BYTES, blockAt, isCutSize, isFull, MAX_BLOCK_NUMBER } from "../wire/block.js";
import { CODE, isSuccessCode } from "../wire/code.js";
import { OPTION } from "../wire/option-registry.js";
import type { Options } from "../wire/options.js";
import { BodyBuffer } from "./body-buffer.js";
import { isSameEtag } from "./entity-tag.js";

/**
 * The client half of one block-wise operation (RFC 7959): a whole request in, messages out one after the other, and the
 * whole response at the end. Without need for blocks it is one message each way.
 *
 * | state | on | to |
 * |---|---|---|
 * | sending | 2.31 for its block, or 2.xx with its Block1 before the last (§2.3: a server without reassembly) | sending the next block |
 * | sending | 4.13 with a smaller Block1, at the first block | sending from the start in smaller blocks |
 * | sending | 4.08, past the first block | sending from the start, three times at most |
 * | sending | another response without more blocks | done |
 * | sending | response with more blocks | receiving |
 * | receiving | the next block | receiving, or done |
 * | receiving | another ETag | receiving from the start, three times at most |
 */
export class BlockwiseTransfer {
  readonly #request: RequestMessage;
  readonly #options: BlockwiseTransferOptions;
  #state: TransferState;
  #restarts = 0;

  /** @throws CoapError COAP_INVALID_MESSAGE, COAP_BODY_TOO_LARGE. */
  constructor(request: RequestMessage, options: Partial<BlockwiseTransferOptions> = {}) {
    this.#options = { ...DEFAULT_BLOCKWISE_TRANSFER_OPTIONS, ...options };
    checkBlockable(request.payload.length, this.#options);
    const { responseBlockBytes } = this.#options;
    // RFC 7959 §2.4: early negotiation, for the first response too.
    const early = { number: 0, hasMore: false, sizeBytes: responseBlockBytes ?? MAX_BLOCK_BYTES };
    this.#request =
      responseBlockBytes === undefined || request.options.block2 !== undefined
        ? request
        : { ...request, options: request.options.withBlock2(early) };
    this.#state = { type: "sending", offset: 0, blockBytes: this.#options.blockBytes };
  }

  /** The message to send now: the first one, or the next after {@link handleResponse} returned undefined. */
  next(): RequestMessage {
    const state = this.#state;
    switch (state.type) {
      case "sending":
        return this.#nextSent(state);
      case "receiving": {
        const { body, blockBytes } = state;
        // RFC 7959 §3.3 and RFC 7641 §2.6: later blocks are asked for without Observe and without the body.
        const options = this.#tagged(this.#request.options)
          .without(OPTION.Observe, OPTION.Block1, OPTION.Size1, OPTION.IfNoneMatch)
          .withBlock2(blockAt(body.length, false, blockBytes));
        const needsBody = this.#request.code === CODE.FETCH && !this.#isCut;
        return { ...this.#request, options, payload: needsBody ? this.#request.payload : NO_PAYLOAD };
      }
    }
  }

  /**
   * Takes the response to the message that {@link next} gave. Returns the whole response, or undefined: go on.
   *
   * @throws CoapError COAP_BLOCK_MISMATCH when blocks do not fit together, COAP_BODY_TOO_LARGE, COAP_BAD_OPTION.
   */
  handleResponse(response: ResponseMessage): ResponseMessage | undefined {
    const state = this.#state;
    return state.type === "sending" ? this.#whileSending(state, response) : this.#whileReceiving(state, response);
  }

  /** Whether the request's body needs more than one message. */
  get #isCut(): boolean {
    return this.#request.payload.length > this.#options.blockBytes;
  }

  /** RFC 9175 §3.3: all messages of a body that is cut carry its tag. */
  #tagged(options: Options): Options {
    const { requestTag } = this.#options;
    return requestTag === undefined || !this.#isCut ? options : options.with(OPTION.RequestTag, requestTag);
  }

  #nextSent(state: SendingState): RequestMessage {
    const { payload, options } = this.#request;
    if (payload.length <= state.blockBytes && state.offset === 0) return this.#request;
    const end = Math.min(state.offset + state.blockBytes, payload.length);
    const withBlock = this.#tagged(options).withBlock1(blockAt(state.offset, end < payload.length, state.blockBytes));
    return {
      ...this.#request,
      // RFC 7959 §2.10: If-None-Match would not hold any more for what the first block has begun.
      options:
        state.offset === 0 ? withBlock.with(OPTION.Size1, payload.length) : withBlock.without(OPTION.IfNoneMatch),
      payload: payload.subarray(state.offset, end),
    };
  }

  #whileSending(state: SendingState, response: ResponseMessage): ResponseMessage | undefined {
    const { length } = this.#request.payload;
    const { code, options } = response;
    const { block1, block2 } = options;
    const end = Math.min(state.offset + state.blockBytes, length);
    if (code === CODE.Continue && end >= length) throw mismatch("2.31 Continue where no more blocks are to come");
    // libcoap 4.3.1 leaves Block1 out of some 2.31 responses: the size stays then.
    if (end < length && (code === CODE.Continue || (isSuccessCode(code) && block1 !== undefined))) {
      // RFC 7959 §2.3: the server may ask for smaller blocks from here on; what was taken counts in bytes.
      const blockBytes =
        block1?.isBert === true ? state.blockBytes : Math.min(state.blockBytes, block1?.sizeBytes ?? Infinity);
      this.#state = { type: "sending", offset: end, blockBytes };
      return undefined;
    }
    if (code === CODE.RequestEntityTooLarge && state.offset === 0) {
      // RFC 7959 §2.9.3: a smaller size in the answer is a hint to try again with it.
      const smaller = block1?.sizeBytes ?? Infinity;
      if (smaller < state.blockBytes && length > smaller) {
        this.#state = { type: "sending", offset: 0, blockBytes: smaller };
        return undefined;
      }
    }
    if (code === CODE.RequestEntityIncomplete && state.offset > 0 && ++this.#restarts <= MAX_RESTARTS) {
      // RFC 7959 §2.9.2: the server has lost the blocks before; nothing has been carried out yet.
      this.#state = { type: "sending", offset: 0, blockBytes: state.blockBytes };
      return undefined;
    }
    if (block2 === undefined) return block1 === undefined ? response : withoutBlocks(response, response.payload);
    if (!isSuccessCode(code)) return response;
    if (!block2.hasMore && block2.number === 0) return withoutBlocks(response, response.payload);
    if (block2.number !== 0) {
      // A later block that was asked for by the caller is the caller's.
      if ((this.#request.options.block2?.number ?? 0) > 0) return response;
      throw mismatch("the first block is not number 0");
    }
    const blockBytes = this.#options.responseBlockBytes ?? MAX_BLOCK_BYTES;
    return this.#receive({ type: "receiving", first: response, body: new BodyBuffer(0), blockBytes }, response);
  }

  #whileReceiving(state: ReceivingState, response: ResponseMessage): ResponseMessage | undefined {
    const { block2 } = response.options;
    if (!isSuccessCode(response.code)) return response;
    if (block2 === undefined) throw mismatch("a block was asked for and a response without Block2 came");
    if (isSameEtag(state.first.options.etag, response.options.etag)) return this.#receive(state, response);
    // RFC 7959 §2.4: another ETag is another representation; its blocks must not be mixed with the first one's.
    if (++this.#restarts > MAX_RESTARTS) throw mismatch("the representation changes faster than it can be read");
    const restarted: ReceivingState = { ...state, first: response, body: new BodyBuffer(0) };
    this.#state = restarted;
    return block2.number === 0 ? this.#receive(restarted, response) : undefined;
  }

  #receive(state: ReceivingState, response: ResponseMessage): ResponseMessage | undefined {
    const { maxBodyBytes } = this.#options;
    const { body } = state;
    const { payload, options } = response;
    const { block2 } = options;
    if (block2 === undefined || block2.number * block2.sizeBytes !== body.length)
      throw mismatch("a block came out of order");
    if (block2.isBert === true && !this.#options.mayBeBert) throw mismatch("BERT, which datagrams do not have");
    if (!isFull(block2, payload.length)) throw mismatch("a block is not of its size");
    if (body.length + payload.length > maxBodyBytes || (options.size2 ?? 0) > maxBodyBytes) {
      throw new CoapError("COAP_BODY_TOO_LARGE", `the response body is longer than ${maxBodyBytes} bytes`);
    }
    const first = body.length === 0 ? response : state.first;
    body.append(payload);
    if (!block2.hasMore) return withoutBlocks(first, body.body());
    // Late negotiation: the smaller of what the server chose and what we want (RFC 7959 §2.4).
    const blockBytes = block2.isBert === true ? 2 * BERT_UNIT_BYTES : Math.min(state.blockBytes, block2.sizeBytes);
    this.#state = { ...state, first, blockBytes };
    return undefined;
  }
}

export interface BlockwiseTransferOptions {
  /** Default 1024: the largest block sent; a power of two from 16, or with `mayBeBert` a multiple of 1024. */
  readonly blockBytes: number;
  /** Default false: whether the transport is reliable, so that blocks may be BERT (RFC 8323 §6). */
  readonly mayBeBert: boolean;
  /** Default undefined: the server chooses the size of response blocks. Else the largest one wanted; a power of two from 16. */
  readonly responseBlockBytes: number | undefined;
  /** Default 1 MiB: a longer response body fails with COAP_BODY_TOO_LARGE. */
  readonly maxBodyBytes: number;
  /**
   * Default undefined. Up to 8 bytes, sent as Request-Tag with a body that is cut: needed where transfers of the same
   * operation run at the same time toward one peer (RFC 9175 §3.5), each with its own.
   */
  readonly requestTag: Uint8Array | undefined;
}

const MAX_BLOCK_BYTES = 1024;

export const DEFAULT_BLOCKWISE_TRANSFER_OPTIONS: BlockwiseTransferOptions = {
  blockBytes: MAX_BLOCK_BYTES,
  mayBeBert: false,
  responseBlockBytes: undefined,
  maxBodyBytes: 1024 * 1024,
  requestTag: undefined,
};

interface SendingState {
  readonly type: "sending";
  readonly offset: number;
  readonly blockBytes: number;
}

interface ReceivingState {
  readonly type: "receiving";
  /** The response with the first block: its code and options are the whole response's. */
  readonly first: ResponseMessage;
  readonly body: BodyBuffer;
  readonly blockBytes: number;
}

type TransferState = SendingState | ReceivingState;

/** @throws CoapError COAP_INVALID_MESSAGE for a size that is none, COAP_BODY_TOO_LARGE for more blocks than can be numbered. */
function checkBlockable(bodyBytes: number, { blockBytes, mayBeBert }: BlockwiseTransferOptions): void {
  if (!isCutSize(blockBytes, mayBeBert)) throw new CoapError("COAP_INVALID_MESSAGE", `${blockBytes} is no block size`);
  if (bodyBytes > (MAX_BLOCK_NUMBER + 1) * Math.min(blockBytes, MAX_BLOCK_BYTES)) {
    throw new CoapError("COAP_BODY_TOO_LARGE", `${bodyBytes} bytes do not fit in blocks of ${blockBytes}`);
  }
}

function withoutBlocks(response: ResponseMessage, payload: Uint8Array): ResponseMessage {
  return {
    code: response.code,
    options: response.options.without(OPTION.Block1, OPTION.Block2, OPTION.Size2),
    payload,
  };
}

function mismatch(what: string): CoapError {
  return new CoapError("COAP_BLOCK_MISMATCH", `block-wise transfer: ${what}`);
}

const MAX_RESTARTS = 3;
