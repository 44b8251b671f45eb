import { NO_PAYLOAD, type RequestMessage, type ResponseMessage } from "../exchange/messages.js";
import { CODE } from "../wire/code.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import { operationKey } from "./cache-key.js";
import { type Tracked, type TransferBounds, TransferTable } from "./transfer-table.js";

/** What both servers of block-wise transfers are: keepers of the bodies under way, each of one operation of one peer. */
export abstract class TransferServer<P extends object, T extends Tracked<P>> {
  protected readonly transfers: TransferTable<P, T>;
  readonly #ignored: ReadonlySet<number>;
  readonly #lifetimeMs: number;

  constructor(options: TransferServerOptions, isExpendable: (peer: P) => boolean = () => false) {
    this.transfers = new TransferTable(options, isExpendable);
    this.#ignored = new Set(options.optionsOutsideOperation);
    this.#lifetimeMs = options.lifetimeMs;
  }

  /** Bytes in memory, in both directions. */
  get bufferedBytes(): number {
    return this.transfers.bytes;
  }

  /** Frees what a peer that is gone had begun. */
  closePeer(peer: P): void {
    this.transfers.closePeer(peer);
  }

  /** When {@link sweep} has something to free, absolute ms; undefined when nothing is kept. */
  nextTimeout(): number | undefined {
    return this.transfers.nextTimeout();
  }

  /** Frees what has expired at `now`. */
  sweep(now: number): void {
    this.transfers.sweep(now);
  }

  protected keyOf(request: RequestMessage, principal: string): string {
    return operationKey(request, this.#ignored, principal);
  }

  /** The answer where there is no room for another transfer: by then the oldest have ended. */
  protected noRoom(): ResponseMessage {
    const maxAge = Math.ceil(this.#lifetimeMs / 1000);
    return { code: CODE.ServiceUnavailable, options: Options.none.with(OPTION.MaxAge, maxAge), payload: NO_PAYLOAD };
  }
}

export interface TransferServerOptions extends TransferBounds {
  readonly optionsOutsideOperation: readonly number[];
}
