import { isSameEtag } from "../blockwise/entity-tag.js";
import { CoapError } from "../errors.js";
import { NO_PAYLOAD, type RequestMessage, type ResponseMessage } from "../exchange/messages.js";
import type { Block } from "../wire/block.js";
import { CODE, isSuccessCode } from "../wire/code.js";
import { CONTENT_FORMAT } from "../wire/content-format.js";
import { OPTION } from "../wire/option-registry.js";
import type { Options } from "../wire/options.js";
import { BlockSet } from "./block-set.js";
import { decodeMissing, qBlocks2Of, withQBlock1, withQBlocks2, qBlock1Of } from "./q-block-option.js";
import { type QBlockParameters, receiveTimeoutMs } from "./q-block-parameters.js";

/**
 * The client half of one operation with Q-Block1 and Q-Block2 (RFC 9177): bodies go in rows of Non-confirmable messages, and
 * only what is missing is asked for again. No I/O: poll its outputs after each call.
 *
 * | state | on | to |
 * |---|---|---|
 * | probing | 4.02, 4.00, Reset | ended: the peer has no Q-Block; send by Block1 and Block2 |
 * | probing | 2.31, or NON_TIMEOUT past | sending the rows |
 * | sending | 2.31 for all that was sent, or NON_TIMEOUT past | sending the next row |
 * | sending | 4.08 with missing-blocks | sending those |
 * | sending | all sent, nothing heard | sending the last one again, NON_MAX_RETRANSMIT times, then ended (failed) |
 * | sending | a response with Q-Block2 | receiving |
 * | receiving | a row is whole | receiving; the next one is asked for |
 * | receiving | NON_RECEIVE_TIMEOUT past | receiving; what is missing is asked for, NON_MAX_RETRANSMIT times, then ended (failed) |
 * | any | the last block that was missing; any other response | ended (done) |
 */
export class QBlockTransfer {
  readonly #request: RequestMessage;
  readonly #options: QBlockTransferOptions;
  readonly #outputs: QBlockOutput[] = [];
  readonly #count: number;
  #state: "probing" | "sending" | "receiving" | "ended" = "probing";
  /** The first block that was never sent. */
  #next = 0;
  #attempts = 0;
  #timeoutAt: number | undefined;
  #first: ResponseMessage | undefined;
  #received: BlockSet | undefined;
  #restarts = 0;
  /** How often each block was sent again. */
  readonly #sentTimes: Uint8Array;

  constructor(request: RequestMessage, options: QBlockTransferOptions) {
    this.#request = request;
    this.#options = options;
    this.#count = Math.max(1, Math.ceil(request.payload.length / options.blockBytes));
    this.#sentTimes = new Uint8Array(this.#count);
    if (options.isKnown && this.#count > 1) this.#state = "sending";
  }

  start(now: number): void {
    if (this.#state !== "probing") return this.#sendRow(now);
    // §4.1: a Confirmable message finds out whether the peer knows the option.
    this.#send(0, true);
    this.#next = 1;
    // One message alone is sent again by the message layer, which does no more than once what it asks for.
    if (this.#count > 1) this.#timeoutAt = now + this.#pauseMs();
  }

  poll(): QBlockOutput | undefined {
    return this.#outputs.shift();
  }

  nextTimeout(): number | undefined {
    return this.#timeoutAt;
  }

  handleTimeout(now: number): void {
    if (this.#timeoutAt === undefined || now < this.#timeoutAt || this.#state === "ended") return;
    if (this.#state === "receiving") return this.#askForMissing(now);
    if (this.#next < this.#count) {
      this.#state = "sending";
      return this.#sendRow(now);
    }
    if (++this.#attempts > this.#options.parameters.nonMaxRetransmit)
      return this.#end({ type: "failed", error: new CoapError("COAP_TIMEOUT", "no response came") });
    this.#send(this.#count - 1, this.#state === "probing");
    this.#awaitResponse(now);
  }

  /** A response to any of the messages. */
  handleResponse(response: ResponseMessage, now: number): void {
    if (this.#state === "ended") return;
    try {
      this.#handle(response, now);
    } catch (error) {
      if (!(error instanceof CoapError)) throw error;
      this.#end({ type: "failed", error });
    }
  }

  /** A message was not acknowledged, or reset: of the probe that tells of the peer, of others nothing. */
  handleFailure(error: CoapError): void {
    if (this.#state === "probing")
      this.#end(error.code === "COAP_RESET" ? { type: "unknown" } : { type: "failed", error });
    else if (error.code === "COAP_PEER_CLOSED") this.#end({ type: "failed", error });
  }

  #handle(response: ResponseMessage, now: number): void {
    const { code, options } = response;
    const isRefused = code === CODE.BadOption || code === CODE.BadRequest;
    if (isRefused && this.#state === "probing") return this.#end({ type: "unknown" });
    const [block2] = qBlocks2Of(options);
    const isMissing =
      code === CODE.RequestEntityIncomplete &&
      options.contentFormat === CONTENT_FORMAT["application/missing-blocks+cbor-seq"];
    if (this.#state === "receiving") {
      if (block2 !== undefined && isSuccessCode(code)) this.#receive(response, block2, now);
      // What was missing of the request may be told late, and is there by now.
      else if (!isSuccessCode(code) && !isMissing) throw mismatch("the server has lost the rest of the response");
      return;
    }
    if (code === CODE.Continue) {
      const acknowledged = qBlock1Of(options)?.number ?? -1;
      this.#state = "sending";
      if (acknowledged + 1 >= this.#next && this.#next < this.#count) this.#sendRow(now);
      return;
    }
    if (isMissing) return this.#sendMissing(response.payload, now);
    if (block2 !== undefined && isSuccessCode(code)) {
      this.#state = "receiving";
      return this.#receive(response, block2, now);
    }
    this.#end({ type: "done", response: { ...response, options: options.without(OPTION.QBlock1) } });
  }

  /** §4.3: what the server names was sent before, or it is another body's. */
  #sendMissing(payload: Uint8Array, now: number): void {
    const numbers = [...new Set(decodeMissing(payload))].filter((number) => number < this.#next);
    this.#state = "sending";
    if (numbers.length === 0) return;
    this.#attempts = 0;
    for (const number of numbers.slice(0, this.#options.parameters.maxPayloads)) {
      const times = (this.#sentTimes[number] ?? 0) + 1;
      this.#sentTimes[number] = times;
      // §7.2: NON_MAX_RETRANSMIT holds for each payload.
      if (times > this.#options.parameters.nonMaxRetransmit)
        return this.#end({ type: "failed", error: new CoapError("COAP_TIMEOUT", "a block is lost again and again") });
      this.#send(number, false);
    }
    if (this.#next < this.#count) this.#timeoutAt = now + this.#pauseMs();
    else this.#awaitResponse(now);
  }

  #sendRow(now: number): void {
    const { maxPayloads } = this.#options.parameters;
    const end = Math.min(this.#count, (Math.floor(this.#next / maxPayloads) + 1) * maxPayloads);
    while (this.#next < end) this.#send(this.#next++, false);
    if (this.#next < this.#count) this.#timeoutAt = now + this.#pauseMs();
    else this.#awaitResponse(now);
  }

  #send(number: number, isConfirmable: boolean): void {
    const { blockBytes, requestTag } = this.#options;
    const { payload } = this.#request;
    // §4.4: what the response may come in.
    let options = withQBlocks2(this.#request.options, [{ number: 0, hasMore: false, sizeBytes: blockBytes }]);
    if (this.#count > 1) {
      options = withQBlock1(options, { number, hasMore: number < this.#count - 1, sizeBytes: blockBytes })
        .with(OPTION.RequestTag, requestTag)
        .with(OPTION.Size1, payload.length);
    }
    const piece = payload.subarray(number * blockBytes, (number + 1) * blockBytes);
    this.#emit(options, piece, isConfirmable);
  }

  #emit(options: Options, payload: Uint8Array, isConfirmable: boolean): void {
    const message = { ...this.#request, options, payload, isConfirmable, hasManyResponses: true };
    this.#outputs.push({ type: "send", message });
  }

  #receive(response: ResponseMessage, block: Block, now: number): void {
    const { maxBodyBytes, parameters } = this.#options;
    const { etag, size2 } = response.options;
    const isOther = this.#first !== undefined && !isSameEtag(this.#first.options.etag, etag);
    if (isOther && ++this.#restarts > MAX_RESTARTS)
      throw mismatch("the representation changes faster than it can be read");
    // §4.4: blocks of two representations are never mixed; the newer one is read.
    if (isOther || this.#received === undefined) {
      this.#first = response;
      this.#received = new BlockSet(block.sizeBytes);
    }
    const received = this.#received;
    const end = block.number * block.sizeBytes + response.payload.length;
    if (end > maxBodyBytes || (size2 ?? 0) > maxBodyBytes)
      throw new CoapError("COAP_BODY_TOO_LARGE", `the response body is longer than ${maxBodyBytes} bytes`);
    const added = received.add(block, response.payload);
    if (added === "misfit") throw mismatch("a block does not fit the ones before");
    if (received.isWhole && this.#first !== undefined) {
      const { code, options } = this.#first;
      const whole = options.without(OPTION.QBlock1, OPTION.QBlock2, OPTION.Size2);
      return this.#end({ type: "done", response: { code, options: whole, payload: received.body() } });
    }
    if (added === "known") return;
    this.#attempts = 0;
    const { maxPayloads } = parameters;
    const rowEnd = (Math.floor(block.number / maxPayloads) + 1) * maxPayloads;
    const isRowEnd = received.highest + 1 === rowEnd && received.missing(rowEnd, 1).length === 0;
    // §4.4: the next row is asked for by its first block, with M.
    if (isRowEnd && block.hasMore) this.#ask([{ number: rowEnd, hasMore: true, sizeBytes: received.sizeBytes }]);
    this.#timeoutAt = now + parameters.nonReceiveTimeoutMs;
  }

  #askForMissing(now: number): void {
    const { nonMaxRetransmit, maxPayloads } = this.#options.parameters;
    const received = this.#received;
    if (received === undefined) return;
    if (++this.#attempts > nonMaxRetransmit)
      return this.#end({ type: "failed", error: new CoapError("COAP_TIMEOUT", "blocks of the response did not come") });
    const { sizeBytes } = received;
    const numbers = received.missing(received.highest + 1, maxPayloads);
    const [first] = numbers;
    this.#ask(
      // The first block by itself would be a new request: it is asked for with its row.
      first === 0 && numbers.length === 1
        ? [{ number: 0, hasMore: true, sizeBytes }]
        : numbers.length > 0
          ? numbers.map((number) => ({ number, hasMore: false, sizeBytes }))
          : [{ number: received.highest + 1, hasMore: true, sizeBytes }],
    );
    this.#timeoutAt = now + receiveTimeoutMs(this.#options.parameters, this.#attempts);
  }

  /** §4.4: later blocks are asked for without the body, with Observe left out. */
  #ask(blocks: readonly Block[]): void {
    const options = withQBlocks2(this.#request.options.without(OPTION.Observe), blocks);
    const isTagged = this.#count > 1;
    const tagged = isTagged ? options.with(OPTION.RequestTag, this.#options.requestTag) : options;
    const payload = this.#request.code === CODE.FETCH && !isTagged ? this.#request.payload : NO_PAYLOAD;
    this.#emit(tagged, payload, false);
  }

  #awaitResponse(now: number): void {
    this.#timeoutAt = now + 2 * receiveTimeoutMs(this.#options.parameters, this.#attempts);
  }

  #pauseMs(): number {
    const { nonTimeoutMs, ackRandomFactor } = this.#options.parameters;
    return nonTimeoutMs * (1 + (ackRandomFactor - 1) * this.#options.randomFraction());
  }

  #end(output: QBlockOutput): void {
    this.#state = "ended";
    this.#timeoutAt = undefined;
    this.#outputs.push(output);
  }
}

export type QBlockOutput =
  | { readonly type: "send"; readonly message: RequestMessage }
  | { readonly type: "done"; readonly response: ResponseMessage }
  | { readonly type: "failed"; readonly error: CoapError }
  /** The peer knows no Q-Block, and has carried nothing out. */
  | { readonly type: "unknown" };

export interface QBlockTransferOptions {
  readonly parameters: QBlockParameters;
  readonly blockBytes: number;
  readonly maxBodyBytes: number;
  /** Of this body alone (§4.3: it tells bodies apart). */
  readonly requestTag: Uint8Array;
  /** Whether the peer is known to have Q-Block, so that no probe is needed. */
  readonly isKnown: boolean;
  /** In [0, 1). */
  readonly randomFraction: () => number;
}

function mismatch(what: string): CoapError {
  return new CoapError("COAP_BLOCK_MISMATCH", `Q-Block transfer: ${what}`);
}

const MAX_RESTARTS = 3;
