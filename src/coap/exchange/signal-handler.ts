import { criticalOptionOf, encodeSignal, SIGNAL, SIGNAL_OPTION, withCsm } from "../stream/signals.js";
import type { StreamMessage } from "../stream/stream-message.js";
import { Options } from "../wire/options.js";
import type { EndpointCore } from "./core.js";
import type { IncomingRequest } from "./incoming-request.js";
import { NO_PAYLOAD } from "./messages.js";
import type { Peer, StreamState } from "./peer.js";
import type { Requester } from "./requester.js";

/** Signals of reliable transports (RFC 8323 §5): what the peer takes, whether it lives, and the end of a connection. */
export class SignalHandler {
  readonly #core: EndpointCore;
  readonly #requester: Requester;

  constructor(core: EndpointCore, requester: Requester) {
    this.#core = core;
    this.#requester = requester;
  }

  release(peer: Peer): void {
    if (peer.stream !== undefined && !peer.isClosed) this.#send(peer, encodeSignal(SIGNAL.Release, NO_PAYLOAD));
  }

  abort(peer: Peer, reason: string, options: Options = Options.none): void {
    if (peer.stream === undefined || peer.isClosed) return;
    this.#send(peer, encodeSignal(SIGNAL.Abort, NO_PAYLOAD, options, reason));
    this.#core.emit({ type: "close", peer, cause: { type: "aborted", reason } });
  }

  handle(peer: Peer, stream: StreamState, message: StreamMessage, now: number): void {
    const { code, options } = message;
    if (code === SIGNAL.Abort) {
      const diagnostic = new TextDecoder().decode(message.payload.subarray(0, MAX_DIAGNOSTIC_BYTES));
      this.#core.emit({ type: "close", peer, cause: { type: "peer-aborted", diagnostic } });
      return;
    }
    const critical = criticalOptionOf(message);
    if (critical !== undefined) {
      const named = code === SIGNAL.CSM ? Options.none.with(SIGNAL_OPTION.BadCsmOption, critical) : Options.none;
      return this.abort(peer, `option ${critical} is critical and not understood`, named);
    }
    if (code === SIGNAL.CSM) {
      stream.capabilities = withCsm(stream.capabilities, message);
      stream.isSettled = true;
      return;
    }
    if (!stream.isSettled) return this.abort(peer, "the first message is no CSM");
    switch (code) {
      case SIGNAL.Ping: {
        if (!options.has(SIGNAL_OPTION.Custody)) return this.#pong(peer, message.token, Options.none);
        // §5.4.1: with Custody the Pong says that all before the Ping is done, and waits until it is.
        if (stream.unanswered.size === 0) return this.#pong(peer, message.token, CUSTODY);
        if (stream.custodies.length >= MAX_CUSTODIES) return this.#pong(peer, message.token, Options.none);
        stream.custodies.push({ token: Uint8Array.from(message.token), upTo: stream.received });
        return;
      }
      case SIGNAL.Pong:
        return this.#requester.handlePong(peer, message.token, now);
      case SIGNAL.Release:
        return this.#core.emit({ type: "close", peer, cause: { type: "released" } });
    }
  }

  /** A request of a peer is handed on. */
  requestReceived(incoming: IncomingRequest): void {
    const { stream } = incoming.peer;
    if (stream !== undefined) stream.unanswered.set(incoming, ++stream.received);
  }

  /** A request was answered: whoever waits for that with Custody is told. */
  requestAnswered(incoming: IncomingRequest): void {
    const { peer } = incoming;
    const { stream } = peer;
    if (stream === undefined || !stream.unanswered.delete(incoming) || stream.custodies.length === 0) return;
    const [oldest = Infinity] = stream.unanswered.values();
    const due = stream.custodies.filter(({ upTo }) => upTo < oldest);
    stream.custodies = stream.custodies.filter(({ upTo }) => upTo >= oldest);
    for (const { token } of due) this.#pong(peer, token, CUSTODY);
  }

  #pong(peer: Peer, token: Uint8Array, options: Options): void {
    if (!peer.isClosed) this.#send(peer, encodeSignal(SIGNAL.Pong, token, options));
  }

  #send(peer: Peer, bytes: Uint8Array): void {
    this.#core.emit({ type: "datagram", peer, bytes });
  }
}

const CUSTODY = Options.none.with(SIGNAL_OPTION.Custody, NO_PAYLOAD);
/** Beyond it a Pong comes at once, and assures nothing. */
const MAX_CUSTODIES = 64;
const MAX_DIAGNOSTIC_BYTES = 200;
