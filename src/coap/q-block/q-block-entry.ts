import { operationKey } from "../blockwise/cache-key.js";
import { NO_PAYLOAD, type RequestMessage, type ResponseMessage } from "../exchange/messages.js";
import type { Timed } from "../exchange/timer-heap.js";
import { OPTION } from "../wire/option-registry.js";
import type { BlockSet } from "./block-set.js";

interface Kept<P> extends Timed {
  readonly peer: P;
  readonly key: string;
  bytes: number;
  /** What it counts for in the sum. */
  countedBytes: number;
  /** Absolute ms, as is when it has something to send. */
  expiresAt: number;
  timeoutAt: number;
}

/** A request's body on its way. */
export interface Upload<P, R> extends Kept<P> {
  readonly type: "upload";
  readonly set: BlockSet;
  latest: R;
  attempts: number;
  askedRow: number;
}

/** A request that the application has, and has not answered. */
interface Handling<P> extends Kept<P> {
  readonly type: "handling";
}

interface Answered<P> extends Kept<P> {
  readonly type: "answered";
  readonly response: ResponseMessage;
}

export interface Download<P, R> extends Kept<P> {
  readonly type: "download";
  readonly response: ResponseMessage;
  readonly sizeBytes: number;
  to: R;
  next: number;
}

/** What a server of Q-Block keeps of one operation. */
export type Entry<P, R> = Upload<P, R> | Handling<P> | Answered<P> | Download<P, R>;

/** An entry's common part. */
export function kept<P>(peer: P, key: string, bodyBytes: number): Kept<P> {
  const bytes = bodyBytes + key.length + ENTRY_BYTES;
  return { peer, key, bytes, countedBytes: bytes, expiresAt: Infinity, timeoutAt: Infinity, timer: undefined };
}

/** What tells the operation from others of its peer. */
export function keyOf(request: RequestMessage): string {
  const { code, payload } = request;
  const options = request.options.without(OPTION.QBlock1, OPTION.QBlock2, OPTION.Size1, OPTION.Size2);
  // A body that is cut is told by its tag, not by its piece.
  const isTagged = options.has(OPTION.RequestTag);
  return operationKey({ code, options, payload: isTagged ? NO_PAYLOAD : payload }, NONE);
}

/** Beside the bytes of a body and its key. */
export const ENTRY_BYTES = 256;
const NONE: ReadonlySet<number> = new Set();
