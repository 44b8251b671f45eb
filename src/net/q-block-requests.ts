import {
  CoapError,
  DEFAULT_Q_BLOCK_PARAMETERS,
  type Endpoint,
  type Exchange,
  type QBlockParameters,
  QBlockTransfer,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import type { CoapConnection, RequestOptions } from "./coap-connection.js";
import { monotonicNow } from "./udp-socket.js";

/** Requests of ours that go by Q-Block1 and Q-Block2 (RFC 9177). */
export class QBlockRequests {
  readonly #endpoint: Endpoint;
  readonly #parameters: QBlockParameters;
  readonly #pump: () => void;
  readonly #runs = new Set<Run>();
  readonly #byExchange = new Map<Exchange, Run>();

  constructor(endpoint: Endpoint, parameters: Partial<QBlockParameters>, pump: () => void) {
    this.#endpoint = endpoint;
    this.#parameters = { ...DEFAULT_Q_BLOCK_PARAMETERS, ...parameters };
    this.#pump = pump;
  }

  /** The whole response; undefined where the peer knows no Q-Block, and has carried nothing out. */
  request(
    connection: CoapConnection,
    request: RequestMessage,
    requestTag: Uint8Array,
    { signal, blockBytes = 1024, maxBodyBytes = DEFAULT_MAX_BODY_BYTES }: RequestOptions,
  ): Promise<ResponseMessage | undefined> {
    return new Promise((resolve, reject) => {
      const cancelled = (): CoapError =>
        new CoapError("COAP_CANCELLED", "the request was cancelled", { cause: signal?.reason });
      if (signal?.aborted === true) {
        reject(cancelled());
        return;
      }
      const transfer = new QBlockTransfer(request, {
        parameters: this.#parameters,
        blockBytes,
        maxBodyBytes,
        requestTag,
        isKnown: connection.hasQBlock === true,
        randomFraction: Math.random,
      });
      const onAbort = (): void => {
        this.#end(run);
        reject(cancelled());
        this.#pump();
      };
      const run: Run = {
        connection,
        transfer,
        exchanges: new Set(),
        end: () => signal?.removeEventListener("abort", onAbort),
        resolve,
        reject,
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#runs.add(run);
      transfer.start(monotonicNow());
      this.#flush(run);
    });
  }

  handleResponse(exchange: Exchange, response: ResponseMessage): void {
    const run = this.#byExchange.get(exchange);
    if (run === undefined) return;
    run.transfer.handleResponse(response, monotonicNow());
    this.#flush(run);
  }

  handleFailure(exchange: Exchange, error: CoapError): void {
    const run = this.#byExchange.get(exchange);
    if (run === undefined) return;
    run.exchanges.delete(exchange);
    this.#byExchange.delete(exchange);
    run.transfer.handleFailure(error);
    this.#flush(run);
  }

  /** Absolute ms; undefined when nothing is under way. */
  nextTimeout(): number | undefined {
    let next = Infinity;
    for (const { transfer } of this.#runs) next = Math.min(next, transfer.nextTimeout() ?? Infinity);
    return next === Infinity ? undefined : next;
  }

  handleTimeout(now: number): void {
    for (const run of this.#runs) {
      run.transfer.handleTimeout(now);
      this.#flush(run);
    }
  }

  #flush(run: Run): void {
    for (let output = run.transfer.poll(); output !== undefined; output = run.transfer.poll()) {
      switch (output.type) {
        case "send": {
          const exchange = this.#endpoint.request(run.connection.peer, output.message, monotonicNow());
          if (exchange.state === "ended") continue;
          run.exchanges.add(exchange);
          this.#byExchange.set(exchange, run);
          continue;
        }
        case "done":
          this.#end(run);
          run.resolve(output.response);
          continue;
        case "failed":
          this.#end(run);
          run.reject(output.error);
          continue;
        case "unknown":
          this.#end(run);
          run.connection.hasQBlock = false;
          run.resolve(undefined);
          continue;
      }
    }
    this.#pump();
  }

  #end(run: Run): void {
    if (!this.#runs.delete(run)) return;
    run.end();
    for (const exchange of run.exchanges) {
      this.#byExchange.delete(exchange);
      this.#endpoint.cancel(exchange, monotonicNow());
    }
  }
}

/** One operation under way. */
interface Run {
  readonly connection: CoapConnection;
  readonly transfer: QBlockTransfer;
  readonly exchanges: Set<Exchange>;
  end(): void;
  resolve(response: ResponseMessage | undefined): void;
  reject(error: Error): void;
}

const DEFAULT_MAX_BODY_BYTES = 1024 * 1024;
