import { CoapError } from "../errors.js";
import { type RequestMessage, NO_PAYLOAD, type ResponseMessage } from "../exchange/messages.js";
import { BLOCK_SIZES_BYTES } from "../wire/block.js";
import { CODE, isSuccessCode } from "../wire/code.js";
import { OPTION } from "../wire/option-registry.js";
import { checkBlockable, joined } from "./blockwise-server.js";

/**
 * The client half of one block-wise operation (RFC 7959): a whole request in, messages out one after the other, and the
 * whole response at the end. Without need for blocks it is one message each way.
 *
 * | state | on | to |
 * |---|---|---|
 * | sending | 2.31 for its block | sending the next block |
 * | sending | 4.13 with a smaller Block1, at the first block | sending from the start in smaller blocks |
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
    checkBlockable(request.payload.length, this.#options.blockBytes);
    this.#request = request;
    this.#state = { type: "sending", offset: 0, blockBytes: this.#options.blockBytes };
  }

  /** The message to send now: the first one, or the next after {@link handleResponse} returned undefined. */
  next(): RequestMessage {
    const state = this.#state;
    switch (state.type) {
      case "sending":
        return this.#nextSent(state);
      case "receiving": {
        const { received, blockBytes } = state;
        // RFC 7959 §3.3 and RFC 7641 §2.6: later blocks are asked for without Observe and without the body.
        const options = this.#request.options
          .without(OPTION.Observe, OPTION.Block1, OPTION.Size1)
          .withBlock2({ number: received / blockBytes, hasMore: false, sizeBytes: blockBytes });
        const needsBody = this.#request.code === CODE.FETCH && this.#request.payload.length <= this.#options.blockBytes;
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

  #nextSent(state: SendingState): RequestMessage {
    const { payload, options } = this.#request;
    if (payload.length <= state.blockBytes && state.offset === 0) return this.#request;
    const end = Math.min(state.offset + state.blockBytes, payload.length);
    const block = {
      number: state.offset / state.blockBytes,
      hasMore: end < payload.length,
      sizeBytes: state.blockBytes,
    };
    const withBlock = options.withBlock1(block);
    return {
      ...this.#request,
      options: state.offset === 0 ? withBlock.with(OPTION.Size1, payload.length) : withBlock,
      payload: payload.subarray(state.offset, end),
    };
  }

  #whileSending(state: SendingState, response: ResponseMessage): ResponseMessage | undefined {
    const { length } = this.#request.payload;
    const end = Math.min(state.offset + state.blockBytes, length);
    const block1 = response.options.block1;
    if (response.code === CODE.Continue) {
      if (block1 === undefined || end >= length) throw mismatch("2.31 Continue where no more blocks are to come");
      // RFC 7959 §2.3: the server may ask for smaller blocks from here on; what was taken counts in bytes.
      const blockBytes = Math.min(state.blockBytes, block1.sizeBytes);
      this.#state = { type: "sending", offset: end, blockBytes };
      return undefined;
    }
    if (response.code === CODE.RequestEntityTooLarge && state.offset === 0) {
      // RFC 7959 §2.9.3: a smaller size in the answer is a hint to try again with it.
      const smaller = block1?.sizeBytes ?? Infinity;
      const isPlain = length <= state.blockBytes;
      if (smaller < state.blockBytes && (!isPlain || length > smaller)) {
        this.#state = { type: "sending", offset: 0, blockBytes: smaller };
        return undefined;
      }
    }
    const block2 = response.options.block2;
    if (block2 === undefined) return block1 === undefined ? response : withoutBlocks(response, response.payload);
    if (!isSuccessCode(response.code)) return response;
    if (!block2.hasMore && block2.number === 0) return withoutBlocks(response, response.payload);
    if (block2.number !== 0 && this.#request.options.block2 === undefined)
      throw mismatch("the first block is not number 0");
    if (this.#request.options.block2 !== undefined && block2.number > 0) return response;
    return this.#receive(
      { type: "receiving", first: response, blocks: [], received: 0, blockBytes: block2.sizeBytes },
      response,
    );
  }

  #whileReceiving(state: ReceivingState, response: ResponseMessage): ResponseMessage | undefined {
    const block2 = response.options.block2;
    if (!isSuccessCode(response.code)) return response;
    if (block2 === undefined) throw mismatch("a block was asked for and a response without Block2 came");
    if (!isSameEtag(state.first.options.etag, response.options.etag)) {
      // RFC 7959 §2.4: another ETag is another representation; its blocks must not be mixed with the first one's.
      if (++this.#restarts > MAX_RESTARTS) throw mismatch("the representation changes faster than it can be read");
      this.#state = { type: "receiving", first: response, blocks: [], received: 0, blockBytes: state.blockBytes };
      if (block2.number !== 0) return undefined;
      return this.#receive({ ...state, first: response, blocks: [], received: 0 }, response);
    }
    return this.#receive(state, response);
  }

  #receive(state: ReceivingState, response: ResponseMessage): ResponseMessage | undefined {
    const { maxBodyBytes } = this.#options;
    const block2 = response.options.block2;
    if (block2 === undefined || block2.number * block2.sizeBytes !== state.received)
      throw mismatch("a block came out of order");
    if (block2.hasMore && response.payload.length !== block2.sizeBytes)
      throw mismatch("a block in the middle is not full");
    const received = state.received + response.payload.length;
    if (received > maxBodyBytes || (response.options.uint(OPTION.Size2) ?? 0) > maxBodyBytes) {
      throw new CoapError("COAP_BODY_TOO_LARGE", `the response body is longer than ${maxBodyBytes} bytes`);
    }
    const blocks = [...state.blocks, response.payload];
    if (!block2.hasMore) return withoutBlocks(state.first, joined(blocks));
    this.#state = { ...state, blocks, received, blockBytes: block2.sizeBytes };
    return undefined;
  }
}

export interface BlockwiseTransferOptions {
  /** Default 1024: the largest block sent; a power of two from 16. */
  readonly blockBytes: number;
  /** Default 1 MiB: a longer response body fails with COAP_BODY_TOO_LARGE. */
  readonly maxBodyBytes: number;
}

export const DEFAULT_BLOCKWISE_TRANSFER_OPTIONS: BlockwiseTransferOptions = {
  blockBytes: BLOCK_SIZES_BYTES.at(-1) ?? 1024,
  maxBodyBytes: 1024 * 1024,
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
  readonly blocks: readonly Uint8Array[];
  readonly received: number;
  readonly blockBytes: number;
}

type TransferState = SendingState | ReceivingState;

function withoutBlocks(response: ResponseMessage, payload: Uint8Array): ResponseMessage {
  return {
    code: response.code,
    options: response.options.without(OPTION.Block1, OPTION.Block2, OPTION.Size2),
    payload,
  };
}

function isSameEtag(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function mismatch(what: string): CoapError {
  return new CoapError("COAP_BLOCK_MISMATCH", `block-wise transfer: ${what}`);
}

const MAX_RESTARTS = 3;
