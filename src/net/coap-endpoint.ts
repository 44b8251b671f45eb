import {
  CODE,
  type CoapError,
  DEFAULT_ENDPOINT_LIMITS,
  Endpoint,
  type EndpointCounters,
  type EndpointOutput,
  OPTION,
  type Peer,
  type RequestMessage,
  type ResponseMessage,
  StreamDecoder,
} from "#coap/index.js";
import type { StreamedBody } from "./body-reader.js";
import { CoapConnection, type Observation, type RequestOptions, type StreamedResponse } from "./coap-connection.js";
import { IncomingRequests } from "./incoming-requests.js";
import { messageRoom } from "./message-room.js";
import { OutgoingRequests } from "./outgoing-requests.js";
import type { CoapStream } from "./coap-stream.js";
import { DEFAULT_MAX_PLAIN_PEERS, PlainPeers, type PlainTransport } from "./plain-peers.js";
import { QBlockRequests } from "./q-block-requests.js";
import { pooledRandom } from "./random-pool.js";
import { SlotTable } from "./slot-table.js";
import { StreamBudget } from "./stream-budget.js";
import { StreamInput } from "./stream-input.js";
import { TurnClock } from "./turn-clock.js";
import type { CoapEndpointOptions, EndpointUsage } from "./coap-endpoint-options.js";
import type { DtlsSession } from "./dtls-session.js";
import { monotonicNow, type SocketAddress, type UdpSocket } from "./udp-socket.js";

/**
 * CoAP on sockets: one endpoint, client and server at once, over any number of DTLS sessions, plain UDP sockets, and TCP
 * or TLS connections.
 *
 * A request that arrives passes `onMessage` (where a server puts its security, message by message), then is put together
 * from blocks, then reaches `onRequest`. A request of ours passes `onSend`, block by block, where a client adds credentials.
 */
export class CoapEndpoint {
  readonly #options: CoapEndpointOptions;
  readonly #endpoint: Endpoint;
  readonly #clock = new TurnClock();
  readonly #incoming: IncomingRequests;
  readonly #connections = new SlotTable<CoapConnection>();
  readonly #outgoing: OutgoingRequests;
  readonly #sockets: UdpSocket[] = [];
  readonly #streamBudget: StreamBudget;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #isPumping = false;
  /** Whose message is being handled: nearly all that is carried out is for it. */
  #current: CoapConnection | undefined;

  constructor(options: CoapEndpointOptions = {}) {
    this.#options = options;
    const isPlain = options.onMessage === undefined && options.onSend === undefined && options.proxy === undefined;
    const qBlock = isPlain ? options.qBlock : undefined;
    this.#endpoint = new Endpoint({
      random: pooledRandom(),
      allocate: messageRoom(),
      ...(options.parameters === undefined ? {} : { parameters: options.parameters }),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      applicationOptions: [...(options.applicationOptions ?? []), ...(qBlock === undefined ? [] : Q_BLOCK_OPTIONS)],
      ...(options.optionFormats === undefined ? {} : { optionFormats: options.optionFormats }),
      ...(options.proxy === undefined ? {} : { isProxy: true }),
      ...(options.dangerFirstToken === undefined ? {} : { dangerFirstToken: options.dangerFirstToken }),
    });
    this.#streamBudget = new StreamBudget(options.maxStreamBytes ?? DEFAULT_MAX_STREAM_BYTES);
    const pump = (): void => this.#pump();
    this.#incoming = new IncomingRequests(this.#endpoint, options, {
      clock: this.#clock,
      qBlock,
      pump,
      closeReleased: ({ peer }) => this.#closeStream(peer, true),
    });
    const requests = qBlock === undefined ? undefined : new QBlockRequests(this.#endpoint, qBlock, pump);
    this.#outgoing = new OutgoingRequests(this.#endpoint, options.onSend, requests, pump);
  }

  get counters(): EndpointCounters {
    return this.#endpoint.counters;
  }

  /** What is kept for peers at this moment; each figure has its bound in the options. */
  get usage(): EndpointUsage {
    return {
      connections: this.#connections.size,
      recentMessages: this.#endpoint.recentMessages,
      observations: this.#endpoint.observations,
      unanswered: this.#incoming.unanswered,
      recentReplyBytes: this.#endpoint.recentReplyBytes,
      bodyBytes: this.#incoming.bufferedBytes,
      streamBytes: this.#streamBudget.bytes,
    };
  }

  get connections(): Iterable<CoapConnection> {
    return this.#connections;
  }

  /** Speaks CoAP over a DTLS session until it closes. */
  addSession(session: DtlsSession): CoapConnection {
    // An accepted association may be one that a server restored, which an answer of before could reach.
    const peer = this.#endpoint.openPeer({ countsTokens: session.role === "client" });
    const connection = this.#open(peer, session.remoteAddress, session, (bytes) => {
      // What does not fit is lost as on any path that is too narrow; a throw would end the work on all other peers.
      if (session.state === "connected" && bytes.length <= session.maxDataBytes) session.send(bytes);
    });
    session.onmessage = (data) => this.#receive(connection, data);
    session.onclose = () => this.closeConnection(connection);
    if (session.state === "closed") this.closeConnection(connection);
    return connection;
  }

  /** Serves plain CoAP on a socket; a connection is made for each address that is heard of, and forgotten when idle. */
  addSocket(socket: UdpSocket): PlainTransport {
    this.#sockets.push(socket);
    return new PlainPeers(socket, this.#options.maxPlainPeers ?? DEFAULT_MAX_PLAIN_PEERS, {
      open: (remote) => this.#open(this.#endpoint.openPeer(), remote, undefined, (bytes) => socket.send(bytes, remote)),
      receive: (connection, datagram) => this.#receive(connection, datagram),
      isDispensable: (connection) =>
        this.#endpoint.isIdle(connection.peer) ||
        (!connection.isVerified && connection.unanswered === 0 && !this.#endpoint.isEngaged(connection.peer)),
      close: (connection) => this.closeConnection(connection),
    });
  }

  /** Speaks CoAP over a TCP or TLS connection (RFC 8323). Fulfilled when the peer has said what it takes. */
  async addStream(stream: CoapStream): Promise<CoapConnection> {
    const peer = this.#endpoint.openStreamPeer();
    stream.countIn(this.#streamBudget);
    const connection = this.#open(peer, stream.remoteAddress, stream, (bytes) => stream.send(bytes));
    const decoder = new StreamDecoder(
      this.#options.limits?.maxStreamMessageBytes ?? DEFAULT_ENDPOINT_LIMITS.maxStreamMessageBytes,
    );
    const silence = setTimeout(() => {
      this.#endpoint.abort(peer, "no CSM came");
      this.#pump();
    }, CSM_TIMEOUT_MS);
    await new Promise<void>((resolve) => {
      const input = new StreamInput(connection, stream, decoder, {
        handle: (message) => {
          this.#endpoint.handleStreamMessage(peer, message, monotonicNow());
          this.#pump();
        },
        abort: (reason) => {
          this.#endpoint.abort(peer, reason);
          this.#pump();
        },
      });
      connection.onAnswered = () => input.goOn();
      stream.onData = (bytes) => {
        connection.onHeard?.();
        input.push(bytes);
        if (peer.stream?.isSettled === true) resolve();
      };
      void stream.closed.then(() => {
        this.closeConnection(connection);
        resolve();
      });
      this.#pump();
    });
    clearTimeout(silence);
    return connection;
  }

  /** For {@link CoapConnection}. */
  request(connection: CoapConnection, request: RequestMessage, options: RequestOptions): Promise<ResponseMessage> {
    return this.#outgoing.request(connection, request, options);
  }

  /** For {@link CoapConnection}. */
  observe(connection: CoapConnection, request: RequestMessage, options: RequestOptions): Promise<Observation> {
    return this.#outgoing.observe(connection, request, options);
  }

  /** For {@link CoapConnection}. */
  stream(
    connection: CoapConnection,
    request: RequestMessage,
    body: StreamedBody | undefined,
    options: RequestOptions,
  ): Promise<StreamedResponse> {
    return this.#outgoing.stream(connection, request, body, options);
  }

  /** For {@link CoapConnection}. */
  ping(connection: CoapConnection, options: RequestOptions): Promise<void> {
    return this.#outgoing.ping(connection, options);
  }

  /** For {@link CoapConnection}. */
  retransmit(connection: CoapConnection): number {
    const sent = this.#endpoint.retransmit(connection.peer);
    this.#pump();
    return sent;
  }

  /** For {@link CoapConnection}: tells a peer on a reliable transport that no more is to come. */
  release(connection: CoapConnection): void {
    this.#endpoint.release(connection.peer);
    this.#pump();
  }

  /** Ends all exchanges with its peer, with `why` or else COAP_PEER_CLOSED; its transport is not closed. */
  closeConnection(connection: CoapConnection, why?: CoapError): void {
    if (connection.isClosed) return;
    this.#endpoint.closePeer(connection.peer, monotonicNow(), why);
    this.#incoming.closePeer(connection);
    this.#connections.delete(connection);
    this.#pump();
    this.#options.onDisconnect?.(connection);
  }

  /** Ends all exchanges and closes the plain sockets; DTLS sessions are their endpoint's to close. */
  async close(): Promise<void> {
    for (const connection of this.#connections) this.closeConnection(connection);
    clearTimeout(this.#timer);
    await Promise.all(this.#sockets.map((socket) => socket.close()));
  }

  #open(
    peer: Peer,
    remote: SocketAddress,
    transport: DtlsSession | CoapStream | undefined,
    transmit: (bytes: Uint8Array) => void,
  ): CoapConnection {
    const connection = new CoapConnection(this, peer, remote, transport, transmit);
    peer.owner = connection;
    this.#connections.add(connection);
    return connection;
  }

  #receive(connection: CoapConnection, datagram: Uint8Array): void {
    connection.onHeard?.();
    this.#current = connection;
    this.#endpoint.handleDatagram(connection.peer, datagram, this.#clock.begin());
    this.#pump();
    this.#clock.end();
    this.#current = undefined;
  }

  #connectionOf(peer: Peer): CoapConnection | undefined {
    const current = this.#current;
    if (current?.peer === peer) return peer.isClosed ? undefined : current;
    return !peer.isClosed && peer.owner instanceof CoapConnection ? peer.owner : undefined;
  }

  /** Carries out what the CoAP layer asks for, until there is nothing left; a call from within changes nothing. */
  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      for (let output = this.#endpoint.poll(); output !== undefined; output = this.#endpoint.poll())
        this.#carryOut(output);
    } finally {
      // What the application throws when it is told goes on to it; the endpoint goes on all the same.
      this.#isPumping = false;
      this.#setTimer();
    }
  }

  #carryOut(output: EndpointOutput): void {
    switch (output.type) {
      case "datagram":
        this.#connectionOf(output.peer)?.transmit(output.bytes);
        return;
      case "request": {
        const connection = this.#connectionOf(output.incoming.peer);
        if (connection !== undefined) this.#incoming.answer(output.incoming, connection);
        return;
      }
      case "response": {
        // Whoever knows our token receives at its address.
        const connection = this.#connectionOf(output.exchange.peer);
        if (connection !== undefined && output.response.code !== CODE.Empty) connection.isVerified = true;
        this.#outgoing.handleResponse(output.exchange, output.response);
        return;
      }
      case "notification":
        this.#outgoing.handleNotification(output.exchange, output.response);
        return;
      case "failed":
        this.#outgoing.handleFailure(output.exchange, output.error);
        return;
      case "close":
        this.#closeStream(output.peer, output.cause.type === "released");
        return;
      case "observation-ended":
        this.#incoming.endObservation(output.incoming);
        return;
    }
  }

  /** RFC 8323 §5.5: after a Release what was asked before is still answered. */
  #closeStream(peer: Peer, isReleased: boolean): void {
    const connection = this.#connectionOf(peer);
    if (connection === undefined) return;
    if (isReleased && connection.unanswered > 0) connection.isReleased = true;
    else void connection.transport?.close();
  }

  #setTimer(): void {
    const endpointAt = this.#endpoint.nextTimeout() ?? Infinity;
    const at = this.#incoming.hasTimeouts ? Math.min(endpointAt, this.#bodiesAt()) : endpointAt;
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(this.#onTimer, Math.max(0, at - monotonicNow()));
  }

  #bodiesAt(): number {
    return Math.min(this.#incoming.nextTimeout(), this.#outgoing.nextTimeout() ?? Infinity);
  }

  readonly #onTimer = (): void => {
    this.#timerAt = Infinity;
    const now = monotonicNow();
    this.#endpoint.handleTimeout(now);
    this.#incoming.handleTimeout(now);
    this.#outgoing.handleTimeout(now);
    this.#pump();
  };
}

const Q_BLOCK_OPTIONS = [OPTION.QBlock1, OPTION.QBlock2];
const CSM_TIMEOUT_MS = 30_000;
const DEFAULT_MAX_STREAM_BYTES = 64 * 1024 * 1024;
