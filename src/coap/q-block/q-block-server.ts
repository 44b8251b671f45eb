import { entityTag } from "../blockwise/entity-tag.js";
import { CoapError } from "../errors.js";
import { TimerHeap } from "../exchange/timer-heap.js";
import { NO_PAYLOAD, type RequestMessage, type ResponseMessage } from "../exchange/messages.js";
import type { Block } from "../wire/block.js";
import { CODE } from "../wire/code.js";
import { CONTENT_FORMAT } from "../wire/content-format.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import { BlockSet } from "./block-set.js";
import { type Download, type Entry, ENTRY_BYTES, kept, keyOf, type Upload } from "./q-block-entry.js";
import { encodeMissing, qBlock1Of, qBlocks2Of, withQBlock1, withQBlocks2 } from "./q-block-option.js";
import { type QBlockParameters, receiveTimeoutMs } from "./q-block-parameters.js";

/**
 * The server half of transfers with Q-Block1 and Q-Block2 (RFC 9177). No I/O: poll its outputs after each call. `P` is a peer,
 * `R` one message of a request, by which it is answered; a message may be answered many times, or never.
 *
 * What it keeps is bounded: bodies per peer and their bytes in all, blocks taking up what has come of them.
 */
export class QBlockServer<P extends object, R> {
  readonly #options: QBlockServerOptions;
  readonly #outputs: QBlockAnswer<R>[] = [];
  readonly #peers = new Map<P, Map<string, Entry<P, R>>>();
  readonly #timers = new TimerHeap<Entry<P, R>>();
  #bytes = 0;

  constructor(options: QBlockServerOptions) {
    this.#options = options;
  }

  get bufferedBytes(): number {
    return this.#bytes;
  }

  poll(): QBlockAnswer<R> | undefined {
    return this.#outputs.shift();
  }

  /** Takes a message with Q-Block1 or Q-Block2. What it gives is a whole request, to be answered by {@link send}. */
  receive(peer: P, from: R, request: RequestMessage, now: number): RequestMessage | undefined {
    try {
      const block = qBlock1Of(request.options);
      const wanted = qBlocks2Of(request.options);
      if (request.options.has(OPTION.Block1) || request.options.has(OPTION.Block2))
        throw new CoapError("COAP_BAD_OPTION", "RFC 9177 §4.1: Block and Q-Block options are never mixed");
      const key = keyOf(request);
      if (block !== undefined) return this.#receiveBlock(peer, key, from, request, block, now);
      return this.#receiveWanted(peer, key, from, request, wanted, now);
    } catch (error) {
      if (!(error instanceof CoapError)) throw error;
      this.#answer(from, CODE.BadOption);
      return undefined;
    }
  }

  /** Answers a whole request that came by the message `from`. */
  send(peer: P, from: R, request: RequestMessage, response: ResponseMessage, now: number): void {
    const key = keyOf(request);
    const block1 = qBlock1Of(request.options);
    const hadBlocks = block1 !== undefined;
    // §4.1: who sends by Q-Block1 takes Q-Block2 as well.
    const implied: readonly Block[] = hadBlocks ? [{ number: 0, hasMore: false, sizeBytes: block1.sizeBytes }] : [];
    const given = qBlocks2Of(request.options);
    const [first, ...others] = given.length > 0 ? given : implied;
    this.#forget(peer, key);
    const sizeBytes = Math.min(first?.sizeBytes ?? this.#options.blockBytes, this.#options.blockBytes);
    const { length } = response.payload;
    if (first === undefined || (length <= sizeBytes && first.number === 0)) {
      this.#outputs.push({ to: from, response });
      // What was carried out is told once more, not done once more, where the answer is lost.
      if (hadBlocks) this.#keep({ ...kept(peer, key, length), type: "answered", response }, now);
      return;
    }
    const { etag, contentFormat } = response.options;
    const options =
      etag === undefined
        ? response.options.with(OPTION.ETag, entityTag(response.payload, contentFormat))
        : response.options;
    const download: Download<P, R> = {
      ...kept(peer, key, length),
      type: "download",
      response: { ...response, options: options.with(OPTION.Size2, length) },
      sizeBytes,
      to: from,
      next: 0,
    };
    if (!this.#keep(download, now)) return this.#answer(from, CODE.ServiceUnavailable);
    if (first.number === 0) return this.#sendRow(download, now);
    this.#sendBlocks(download, from, [first, ...others]);
  }

  closePeer(peer: P): void {
    for (const key of this.#peers.get(peer)?.keys() ?? []) this.#forget(peer, key);
  }

  nextTimeout(): number | undefined {
    return this.#timers.next();
  }

  handleTimeout(now: number): void {
    for (let due = this.#timers.take(now); due !== undefined; due = this.#timers.take(now)) {
      if (due.expiresAt <= now) this.#forget(due.peer, due.key);
      else if (due.type === "download") this.#sendRow(due, now);
      else if (due.type === "upload") this.#askForMissing(due, now);
    }
  }

  #receiveBlock(
    peer: P,
    key: string,
    from: R,
    request: RequestMessage,
    block: Block,
    now: number,
  ): RequestMessage | undefined {
    const { maxBodyBytes, parameters } = this.#options;
    const { payload, options } = request;
    // §4.3: Request-Tag tells one body from another.
    if (!options.has(OPTION.RequestTag)) return this.#refuse(from, CODE.BadRequest);
    if (block.number * block.sizeBytes + payload.length > maxBodyBytes || (options.size1 ?? 0) > maxBodyBytes) {
      this.#forget(peer, key);
      return this.#refuse(from, CODE.RequestEntityTooLarge, Options.none.with(OPTION.Size1, maxBodyBytes));
    }
    let entry = this.#peers.get(peer)?.get(key);
    if (entry?.type === "answered") {
      this.#outputs.push({ to: from, response: entry.response });
      return undefined;
    }
    if (entry?.type === "handling") return undefined;
    if (entry?.type === "download") {
      // The last block came again: the response has been lost, and is given anew.
      this.#keep(entry, now);
      entry.to = from;
      entry.next = 0;
      this.#sendRow(entry, now);
      return undefined;
    }
    if (entry === undefined) {
      const set = new BlockSet(block.sizeBytes);
      entry = { ...kept(peer, key, 0), type: "upload", set, latest: from, attempts: 0, askedRow: 0 };
      if (!this.#keep(entry, now)) return this.#refuse(from, CODE.ServiceUnavailable);
    }
    const { set } = entry;
    const added = set.add(block, payload);
    entry.latest = from;
    if (added === "misfit") {
      this.#forget(peer, key);
      return this.#refuse(from, CODE.RequestEntityIncomplete);
    }
    if (added === "known") return undefined;
    entry.attempts = 0;
    entry.timeoutAt = now + parameters.nonReceiveTimeoutMs;
    entry.bytes = ENTRY_BYTES + key.length + set.heldBytes;
    if (set.isWhole) {
      const whole = { ...request, payload: set.body() };
      this.#keep({ ...kept(peer, key, 0), type: "handling" }, now);
      return whole;
    }
    if (!this.#keep(entry, now)) return this.#refuse(from, CODE.ServiceUnavailable);
    this.#acknowledge(entry, block, request.isConfirmable === true);
    return undefined;
  }

  /** §4.3: 2.31 for a row that is whole; 4.08 as soon as a later row begins without it. */
  #acknowledge(upload: Upload<P, R>, block: Block, isConfirmable: boolean): void {
    const { maxPayloads } = this.#options.parameters;
    const { set } = upload;
    const row = Math.floor(block.number / maxPayloads);
    const missing = set.missing((row + 1) * maxPayloads, maxPayloads);
    const [firstMissing = Infinity] = missing;
    const isProbe = isConfirmable && block.number === 0;
    if (missing.length === 0 || isProbe) {
      const number = isProbe ? 0 : (row + 1) * maxPayloads - 1;
      const continued = withQBlock1(Options.none, { number, hasMore: true, sizeBytes: set.sizeBytes });
      return this.#answer(upload.latest, CODE.Continue, continued);
    }
    if (firstMissing >= row * maxPayloads || upload.askedRow >= row) return;
    upload.askedRow = row;
    this.#answerMissing(upload, set.missing(row * maxPayloads, maxPayloads));
  }

  #askForMissing(upload: Upload<P, R>, now: number): void {
    const { nonMaxRetransmit, maxPayloads } = this.#options.parameters;
    const { set } = upload;
    if (++upload.attempts > nonMaxRetransmit) {
      this.#forget(upload.peer, upload.key);
      return this.#answer(upload.latest, CODE.RequestEntityIncomplete);
    }
    upload.timeoutAt = now + receiveTimeoutMs(this.#options.parameters, upload.attempts);
    this.#schedule(upload);
    // Where the body ends is not known before its last block: to the end of the row, which the client knows better.
    const end = set.count ?? (Math.floor(set.highest / maxPayloads) + 1) * maxPayloads;
    const missing = set.missing(end, maxPayloads);
    if (missing.length > 0) return this.#answerMissing(upload, missing);
    const continued = withQBlock1(Options.none, { number: set.highest, hasMore: true, sizeBytes: set.sizeBytes });
    this.#answer(upload.latest, CODE.Continue, continued);
  }

  #answerMissing(upload: Upload<P, R>, numbers: readonly number[]): void {
    const format = CONTENT_FORMAT["application/missing-blocks+cbor-seq"];
    const options = Options.none.with(OPTION.ContentFormat, format);
    const payload = encodeMissing(numbers, upload.set.sizeBytes);
    this.#outputs.push({ to: upload.latest, response: { code: CODE.RequestEntityIncomplete, options, payload } });
  }

  #receiveWanted(
    peer: P,
    key: string,
    from: R,
    request: RequestMessage,
    wanted: readonly Block[],
    now: number,
  ): RequestMessage | undefined {
    const [first] = wanted;
    const entry = this.#peers.get(peer)?.get(key);
    const isTagged = request.options.has(OPTION.RequestTag);
    // The first block by itself is how a request begins; who lacks only that one asks for its row.
    const isBeginning = first?.number === 0 && wanted.length === 1 && !first.hasMore && !isTagged;
    const isRepeatable = request.code === CODE.GET || request.code === CODE.FETCH;
    // What is not kept any more is made anew where that does no harm.
    if (isBeginning || (entry?.type !== "download" && isRepeatable && !isTagged)) return request;
    if (entry?.type !== "download") return this.#refuse(from, CODE.RequestEntityIncomplete);
    this.#keep(entry, now);
    if (first?.hasMore === true && first.number * first.sizeBytes >= entry.next * entry.sizeBytes) {
      entry.to = from;
      this.#sendRow(entry, now);
      return undefined;
    }
    this.#sendBlocks(entry, from, wanted);
    return undefined;
  }

  #sendRow(download: Download<P, R>, now: number): void {
    const { maxPayloads, nonTimeoutMs, ackRandomFactor } = this.#options.parameters;
    const count = Math.ceil(download.response.payload.length / download.sizeBytes);
    const end = Math.min(count, (Math.floor(download.next / maxPayloads) + 1) * maxPayloads);
    while (download.next < end) this.#sendBlock(download, download.to, download.next++);
    const pauseMs = nonTimeoutMs * (1 + (ackRandomFactor - 1) * this.#options.randomFraction());
    download.timeoutAt = download.next < count ? now + pauseMs : Infinity;
    this.#schedule(download);
  }

  /** What is asked for by itself: with M all to the end of its row. */
  #sendBlocks(download: Download<P, R>, to: R, wanted: readonly Block[]): void {
    const { maxPayloads } = this.#options.parameters;
    const count = Math.ceil(download.response.payload.length / download.sizeBytes);
    const numbers = wanted.flatMap(({ number, hasMore, sizeBytes }) => {
      const from = Math.floor((number * sizeBytes) / download.sizeBytes);
      const end = hasMore ? (Math.floor(from / maxPayloads) + 1) * maxPayloads : from + 1;
      return Array.from({ length: end - from }, (_, index) => from + index);
    });
    const known = numbers.filter((number) => number < count).slice(0, maxPayloads);
    if (known.length === 0) return this.#answer(to, CODE.BadOption);
    for (const number of known) this.#sendBlock(download, to, number);
  }

  #sendBlock({ response, sizeBytes }: Download<P, R>, to: R, number: number): void {
    const offset = number * sizeBytes;
    const end = Math.min(offset + sizeBytes, response.payload.length);
    const block = { number, hasMore: end < response.payload.length, sizeBytes };
    const payload = response.payload.subarray(offset, end);
    const options = withQBlocks2(response.options, [block]);
    this.#outputs.push({ to, response: { code: response.code, options, payload } });
  }

  /** An answer in place of a whole request. */
  #refuse(to: R, code: number, options?: Options): undefined {
    this.#answer(to, code, options);
    return undefined;
  }

  #answer(to: R, code: number, options: Options = Options.none): void {
    this.#outputs.push({ to, response: { code, options, payload: NO_PAYLOAD } });
  }

  /** Keeps an entry for another while; the peer's oldest makes way. Returns whether there is room. */
  #keep(entry: Entry<P, R>, now: number): boolean {
    const { maxTransfersPerPeer, maxBufferedBytes, parameters } = this.#options;
    const { peer, key } = entry;
    this.#forget(peer, key);
    for (const oldest of this.#peers.get(peer)?.keys() ?? []) {
      if ((this.#peers.get(peer)?.size ?? 0) < maxTransfersPerPeer) break;
      this.#forget(peer, oldest);
    }
    if (this.#bytes + entry.bytes > maxBufferedBytes) return false;
    let entries = this.#peers.get(peer);
    if (entries === undefined) {
      entries = new Map();
      this.#peers.set(peer, entries);
    }
    entry.expiresAt = now + parameters.nonPartialTimeoutMs;
    entry.countedBytes = entry.bytes;
    entries.set(key, entry);
    this.#bytes += entry.bytes;
    this.#schedule(entry);
    return true;
  }

  #schedule(entry: Entry<P, R>): void {
    this.#timers.schedule(entry, Math.min(entry.expiresAt, entry.timeoutAt));
  }

  #forget(peer: P, key: string): void {
    const entries = this.#peers.get(peer);
    const entry = entries?.get(key);
    if (entries === undefined || entry === undefined) return;
    entries.delete(key);
    if (entries.size === 0) this.#peers.delete(peer);
    this.#bytes -= entry.countedBytes;
    this.#timers.cancel(entry);
  }
}

/** One answer to a message; not the only one it may get. */
export interface QBlockAnswer<R> {
  readonly to: R;
  readonly response: ResponseMessage;
}

export interface QBlockServerOptions {
  readonly parameters: QBlockParameters;
  readonly blockBytes: number;
  readonly maxBodyBytes: number;
  readonly maxTransfersPerPeer: number;
  readonly maxBufferedBytes: number;
  /** In [0, 1). */
  readonly randomFraction: () => number;
}
