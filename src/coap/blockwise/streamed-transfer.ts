import { CoapError } from "../errors.js";
import { NO_PAYLOAD, type RequestMessage, type ResponseMessage } from "../exchange/messages.js";
import { BERT_UNIT_BYTES, blockAt, isCutSize, isFull, MAX_BLOCK_NUMBER } from "../wire/block.js";
import { CODE, isSuccessCode } from "../wire/code.js";
import { OPTION } from "../wire/option-registry.js";
import { isSameEtag } from "./entity-tag.js";

/**
 * The client half of a block-wise operation whose bodies are never whole in memory (RFC 7959): the caller gives the
 * request's body piece by piece, and takes the response's as it comes. What {@link BlockwiseTransfer} does by starting
 * over fails here, since a stream is read once.
 *
 * | state | on | to |
 * |---|---|---|
 * | sending | 2.31, or 2.xx with Block1 before the last piece | sending the next piece |
 * | sending | 4.13 with a smaller Block1, at the first piece | sending the same bytes in smaller pieces |
 * | sending | any other response | receiving, or done |
 * | receiving | the next block of the same representation | receiving, or done |
 */
export class StreamedTransfer {
  readonly #request: RequestMessage;
  readonly #options: StreamedTransferOptions;
  #state: StreamState;

  /** The request's own payload is not looked at. @throws CoapError COAP_INVALID_MESSAGE for a size that is none. */
  constructor(request: RequestMessage, options: StreamedTransferOptions) {
    const { blockBytes, mayBeBert, responseBlockBytes } = options;
    if (!isCutSize(blockBytes, mayBeBert))
      throw new CoapError("COAP_INVALID_MESSAGE", `${blockBytes} is no block size`);
    this.#options = options;
    const early = { number: 0, hasMore: false, sizeBytes: responseBlockBytes ?? MAX_BLOCK_BYTES };
    const isEarly = responseBlockBytes !== undefined && request.options.block2 === undefined;
    this.#request = isEarly ? { ...request, options: request.options.withBlock2(early) } : request;
    this.#state = { type: "sending", offset: 0, blockBytes, sentBytes: 0, isLast: false };
  }

  /** How many bytes of the request's body the next message takes; fewer are its end. 0: it takes none. */
  get wantedBytes(): number {
    return this.#state.type === "sending" ? this.#state.blockBytes : 0;
  }

  /** The next message. `piece` has `wantedBytes` bytes, or fewer when it `isLast`; it is ignored where none are wanted. */
  next(piece: Uint8Array = NO_PAYLOAD, isLast = true): RequestMessage {
    const state = this.#state;
    const { options } = this.#request;
    const { requestTag } = this.#options;
    switch (state.type) {
      case "sending": {
        this.#state = { ...state, sentBytes: piece.length, isLast };
        if (state.offset === 0 && isLast) return { ...this.#request, payload: piece };
        if (state.offset / Math.min(state.blockBytes, BERT_UNIT_BYTES) > MAX_BLOCK_NUMBER)
          throw new CoapError("COAP_BODY_TOO_LARGE", "more blocks than can be numbered");
        const tagged = requestTag === undefined ? options : options.with(OPTION.RequestTag, requestTag);
        const withBlock = tagged.withBlock1(blockAt(state.offset, !isLast, state.blockBytes));
        return {
          ...this.#request,
          options: state.offset === 0 ? withBlock : withBlock.without(OPTION.IfNoneMatch),
          payload: piece,
        };
      }
      case "receiving": {
        const isTagged = requestTag !== undefined && state.wasCut;
        return {
          ...this.#request,
          options: (isTagged ? options.with(OPTION.RequestTag, requestTag) : options)
            .without(OPTION.Observe, OPTION.Block1, OPTION.Size1, OPTION.IfNoneMatch)
            .withBlock2(blockAt(state.offset, false, state.blockBytes)),
          payload: NO_PAYLOAD,
        };
      }
    }
  }

  /**
   * Takes the response to the message that {@link next} gave.
   *
   * @throws CoapError COAP_BLOCK_MISMATCH: blocks do not fit together, the representation changed, or the server wants the
   * body from its start again; COAP_BAD_OPTION.
   */
  handleResponse(response: ResponseMessage): StreamStep {
    const state = this.#state;
    return state.type === "sending" ? this.#whileSending(state, response) : this.#whileReceiving(state, response);
  }

  #whileSending(state: SendingState, response: ResponseMessage): StreamStep {
    const { code, options } = response;
    const { block1, block2 } = options;
    if (code === CODE.Continue && state.isLast) throw mismatch("2.31 Continue where no more is to come");
    if (!state.isLast && (code === CODE.Continue || (isSuccessCode(code) && block1 !== undefined))) {
      // RFC 7959 §2.3: the server may ask for smaller blocks from here on; what was taken counts in bytes.
      const isBert = block1?.isBert === true;
      const blockBytes = isBert ? state.blockBytes : Math.min(state.blockBytes, block1?.sizeBytes ?? Infinity);
      this.#state = { ...state, offset: state.offset + state.sentBytes, blockBytes };
      return { type: "continue" };
    }
    if (code === CODE.RequestEntityTooLarge && state.offset === 0) {
      const smaller = block1?.sizeBytes ?? Infinity;
      if (smaller < state.blockBytes && state.sentBytes > smaller) {
        this.#state = { ...state, blockBytes: smaller };
        return { type: "again" };
      }
    }
    if (code === CODE.RequestEntityIncomplete && state.offset > 0)
      throw mismatch("the server has lost what was sent before, which cannot be sent again");
    if (block2 === undefined || !isSuccessCode(code)) return whole(response);
    const isAsked = (this.#request.options.block2?.number ?? 0) > 0;
    if (block2.number !== 0 || isAsked) {
      if (isAsked) return whole(response);
      throw mismatch("the first block is not number 0");
    }
    const blockBytes = this.#options.responseBlockBytes ?? MAX_BLOCK_BYTES;
    const wasCut = state.offset > 0 || !state.isLast;
    return this.#receive({ type: "receiving", offset: 0, blockBytes, etag: options.etag, wasCut }, response);
  }

  #whileReceiving(state: ReceivingState, response: ResponseMessage): StreamStep {
    const { block2, etag } = response.options;
    if (!isSuccessCode(response.code)) throw mismatch(`a later block was answered by the code ${response.code}`);
    if (block2 === undefined) throw mismatch("a block was asked for and a response without Block2 came");
    if (!isSameEtag(state.etag, etag)) throw mismatch("the representation has changed while it was read");
    return this.#receive(state, response);
  }

  #receive(state: ReceivingState, response: ResponseMessage): StreamStep {
    const { payload, options } = response;
    const { block2 } = options;
    if (block2 === undefined || block2.number * block2.sizeBytes !== state.offset)
      throw mismatch("a block came out of order");
    if (block2.isBert === true && !this.#options.mayBeBert) throw mismatch("BERT, which datagrams do not have");
    if (!isFull(block2, payload.length)) throw mismatch("a block is not of its size");
    const blockBytes = block2.isBert === true ? 2 * BERT_UNIT_BYTES : Math.min(state.blockBytes, block2.sizeBytes);
    this.#state = { ...state, offset: state.offset + payload.length, blockBytes };
    return {
      type: "block",
      response: { ...response, options: options.without(OPTION.Block1, OPTION.Block2, OPTION.Size2) },
      isLast: !block2.hasMore,
    };
  }
}

export type StreamStep =
  /** Give the next piece. */
  | { readonly type: "continue" }
  /** Give the same bytes, in the smaller pieces that are wanted now. */
  | { readonly type: "again" }
  /** A block of the response; the first one's code and options are the whole response's. */
  | { readonly type: "block"; readonly response: ResponseMessage; readonly isLast: boolean };

export interface StreamedTransferOptions {
  /** The largest block sent; a power of two from 16, or with `mayBeBert` a multiple of 1024. */
  readonly blockBytes: number;
  readonly mayBeBert: boolean;
  /** undefined: the server's choice. */
  readonly responseBlockBytes: number | undefined;
  /** As for {@link BlockwiseTransfer}. */
  readonly requestTag: Uint8Array | undefined;
}

interface SendingState {
  readonly type: "sending";
  readonly offset: number;
  readonly blockBytes: number;
  readonly sentBytes: number;
  readonly isLast: boolean;
}

interface ReceivingState {
  readonly type: "receiving";
  readonly offset: number;
  readonly blockBytes: number;
  readonly etag: Uint8Array | undefined;
  readonly wasCut: boolean;
}

type StreamState = SendingState | ReceivingState;

function whole(response: ResponseMessage): StreamStep {
  const options = response.options.without(OPTION.Block1);
  return { type: "block", response: { ...response, options }, isLast: true };
}

function mismatch(what: string): CoapError {
  return new CoapError("COAP_BLOCK_MISMATCH", `streamed transfer: ${what}`);
}

const MAX_BLOCK_BYTES = 1024;
