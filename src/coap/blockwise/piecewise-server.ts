import type { RequestMessage, ResponseMessage } from "../exchange/messages.js";
import { type Block, BERT_UNIT_BYTES, blockAt, isFull } from "../wire/block.js";
import { CODE } from "../wire/code.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import type { BlockwiseServerOptions } from "./blockwise-server.js";
import { TransferServer } from "./transfer-server.js";
import type { Tracked } from "./transfer-table.js";

/**
 * The server half of block-wise transfers whose bodies are handled as they come, never whole (RFC 7959 §2.5: "stateless" or
 * non-atomic processing): request bodies piece by piece in order, response bodies as their next block is asked for.
 *
 * `U` stands for what consumes a request's body, `D` for what produces a response's; both are told when their transfer is
 * over before its end: the peer is gone, began anew, was silent for `lifetimeMs`, or has more transfers than its bound.
 */
export class PiecewiseServer<P extends object, U extends Droppable, D extends Droppable> extends TransferServer<
  P,
  PieceTransfer<P, U, D>
> {
  readonly #options: Pick<BlockwiseServerOptions, "blockBytes">;

  constructor(options: BlockwiseServerOptions) {
    super(options);
    this.#options = options;
  }

  /** Bodies under way. */
  get size(): number {
    return this.transfers.size;
  }

  /** Takes a message of a request that is to be handled piece by piece; `begin` is called for its first one. */
  receive(
    peer: P,
    request: RequestMessage,
    now: number,
    begin: () => U,
    mayBeBert: boolean,
    principal = "",
  ): PieceInput<U> {
    let block: Block | undefined;
    try {
      block = request.options.block1;
    } catch {
      return answer(CODE.BadOption);
    }
    const { payload } = request;
    if (block === undefined) return { type: "piece", upload: begin(), payload, isLast: true, isFirst: true };
    if (block.isBert === true && !mayBeBert) return answer(CODE.BadRequest);
    const key = this.keyOf(request, principal);
    if (!isFull(block, payload.length)) return answer(CODE.BadRequest);
    const offset = block.number * block.sizeBytes;
    const found = this.transfers.find(peer, key);
    const kept = found?.type === "upload" ? found : undefined;
    const more: Block = { ...block, sizeBytes: Math.min(block.sizeBytes, this.#options.blockBytes) };
    const goOn: ResponseMessage = {
      code: CODE.Continue,
      options: Options.none.withBlock1(more),
      payload: new Uint8Array(0),
    };
    if (block.number === 0) {
      if (!block.hasMore) {
        this.transfers.forget(peer, key);
        return { type: "piece", upload: begin(), payload, isLast: true, isFirst: true };
      }
      const upload: UploadTransfer<P, U> = {
        type: "upload",
        peer,
        key,
        bytes: payload.length,
        upload: begin(),
        lastOffset: 0,
        nextOffset: payload.length,
        dropped: (cause) => upload.upload.drop(cause),
      };
      if (!this.transfers.keep(upload, now)) {
        upload.upload.drop("limit");
        return { type: "answer", response: this.noRoom() };
      }
      return { type: "piece", upload: upload.upload, payload, isLast: false, isFirst: true, goOn };
    }
    // What came last may come again by a new message, where its answer was lost; it is not handled twice.
    if (kept !== undefined && offset === kept.lastOffset && block.hasMore) return { type: "answer", response: goOn };
    if (kept === undefined || offset !== kept.nextOffset) {
      this.transfers.forget(peer, key);
      return answer(CODE.RequestEntityIncomplete);
    }
    kept.lastOffset = offset;
    kept.nextOffset = offset + payload.length;
    if (block.hasMore) this.transfers.keep(kept, now);
    else this.transfers.release(peer, key);
    return { type: "piece", upload: kept.upload, payload, isLast: !block.hasMore, isFirst: false, goOn };
  }

  /** An upload that was answered before its end: what is still to come of it is 4.08. */
  end(peer: P, request: RequestMessage, principal = ""): void {
    this.transfers.release(peer, this.keyOf(request, principal));
  }

  /** The message with the first piece of a response's body, which is kept for the next ones. `etag` tells this body from others. */
  begin(
    peer: P,
    request: RequestMessage,
    response: ResponseMessage,
    download: D,
    etag: Uint8Array,
    sizeBytes: number,
    now: number,
    principal = "",
  ): ResponseMessage {
    const { block1 } = request.options;
    const tagged = response.options.etag === undefined ? response.options.with(OPTION.ETag, etag) : response.options;
    const first = { ...response, options: tagged.withBlock2(blockAt(0, true, sizeBytes)) };
    const key = this.keyOf(request, principal);
    const transfer: DownloadTransfer<P, D> = {
      type: "download",
      peer,
      key,
      bytes: 2 * sizeBytes,
      download,
      lastOffset: 0,
      last: first,
      options: tagged,
      nextOffset: response.payload.length,
      dropped: (cause) => transfer.download.drop(cause),
    };
    if (!this.transfers.keep(transfer, now)) {
      download.drop("limit");
      return this.noRoom();
    }
    // RFC 7959 §2.2: the response to the last block of a request echoes its Block1.
    return block1 === undefined
      ? first
      : { ...first, options: first.options.withBlock1({ ...block1, hasMore: false }) };
  }

  /** A request for a later block of a body that {@link begin} began; undefined where there is none. */
  pull(peer: P, request: RequestMessage, cutBytes: number, now: number, principal = ""): PullInput<D> | undefined {
    let block: Block | undefined;
    try {
      block = request.options.block2;
    } catch {
      return undefined;
    }
    if (block === undefined || block.number === 0 || request.options.has(OPTION.Block1)) return undefined;
    const kept = this.transfers.find(peer, this.keyOf(request, principal));
    if (kept?.type !== "download") return undefined;
    const offset = block.number * block.sizeBytes;
    if (block.isBert === true && cutBytes <= BERT_UNIT_BYTES) return answer(CODE.BadRequest);
    if (offset === kept.lastOffset) return { type: "answer", response: kept.last };
    // A stream is read once, from its start: there is no going elsewhere in it.
    if (offset !== kept.nextOffset) return answer(CODE.RequestEntityIncomplete);
    const sizeBytes = block.isBert === true ? cutBytes : Math.min(block.sizeBytes, cutBytes);
    this.transfers.keep(kept, now);
    const send = (payload: Uint8Array, isLast: boolean): ResponseMessage => {
      kept.lastOffset = offset;
      kept.nextOffset = offset + payload.length;
      const options = kept.options.withBlock2(blockAt(offset, !isLast, sizeBytes));
      kept.last = { code: kept.last.code, options, payload };
      if (isLast) this.transfers.release(peer, kept.key);
      return kept.last;
    };
    return { type: "pull", download: kept.download, sizeBytes, send };
  }
}

export interface Droppable {
  drop(cause: DropCause): void;
}

/** Why a transfer ended before its body did. */
export type DropCause = "expired" | "limit" | "peer-closed" | "replaced";

export type PieceInput<U> =
  | {
      readonly type: "piece";
      readonly upload: U;
      readonly payload: Uint8Array;
      readonly isFirst: boolean;
      readonly isLast: boolean;
      /** The answer where more is to come, once the piece has been taken. */
      readonly goOn?: ResponseMessage;
    }
  | { readonly type: "answer"; readonly response: ResponseMessage };

export type PullInput<D> =
  | {
      readonly type: "pull";
      readonly download: D;
      /** How many bytes the block takes. */
      readonly sizeBytes: number;
      /** The message with them. */
      readonly send: (payload: Uint8Array, isLast: boolean) => ResponseMessage;
    }
  | { readonly type: "answer"; readonly response: ResponseMessage };

interface UploadTransfer<P, U> extends Tracked<P> {
  readonly type: "upload";
  readonly upload: U;
  lastOffset: number;
  nextOffset: number;
}

interface DownloadTransfer<P, D> extends Tracked<P> {
  readonly type: "download";
  readonly download: D;
  readonly options: Options;
  lastOffset: number;
  last: ResponseMessage;
  nextOffset: number;
}

type PieceTransfer<P, U, D> = UploadTransfer<P, U> | DownloadTransfer<P, D>;

function answer(
  code: number,
  options: Options = Options.none,
): { readonly type: "answer"; readonly response: ResponseMessage } {
  return { type: "answer", response: { code, options, payload: new Uint8Array(0) } };
}
