import type {
  BlockwiseServerOptions,
  EndpointLimits,
  IncomingRequest,
  OptionFormat,
  Options,
  QBlockParameters,
  RequestMessage,
  ResponseMessage,
  TransmissionParameters,
} from "#coap/index.js";
import type { StreamedBody } from "./body-reader.js";
import type { CoapConnection } from "./coap-connection.js";

/** A response that the client may observe: `observe` is given what sends notifications, and returns what stops them. */
export interface ObservableResponse extends ResponseMessage {
  readonly observe?: (notify: (response: ResponseMessage) => void) => () => void;
  /** The body, in place of the payload: it is read as its blocks are asked for. */
  readonly body?: StreamedBody;
  /** The endpoint's own: who asked. */
  readonly principal?: string;
  /** Default false. true: notifications are messages as they are, not bodies to be cut into blocks. */
  readonly isMessage?: boolean;
  /** The last word on each message of a notification, such as a proof over it. */
  readonly finish?: (message: ResponseMessage) => ResponseMessage;
}

/** Sends a message and gives its response; notifications that follow are handed on where `isAccepted` says so. */
export type SendMessage = (
  message: RequestMessage,
  isAccepted?: (notification: ResponseMessage) => boolean,
) => Promise<ResponseMessage>;

export type Answer = ObservableResponse | Promise<ObservableResponse>;

/** A request whose body is read as it comes. */
export interface StreamedRequest {
  readonly code: number;
  readonly options: Options;
  readonly body: StreamedBody;
}

/** Answers a request whose body it reads as it comes. Each block is acknowledged when the handler asks for what follows. */
export type StreamedHandler = (request: StreamedRequest) => Answer;

export interface ForwardingOptions {
  /** Default false. true: no request on plain UDP is looked at before its address has shown by Echo that it receives. */
  readonly needsProvenAddress?: boolean;
}

export interface CoapEndpointOptions {
  /** Answers a whole request. `context` is what `onMessage` gave. Default: 4.04 to everything. */
  readonly onRequest?: (request: RequestMessage, connection: CoapConnection, context: unknown) => Answer;
  /**
   * Is asked for each message of a request first: a handler, and the body goes to it block by block, of any length; undefined,
   * and the request reaches `onRequest` when it is whole. The answer must be the same for all messages of one request.
   */
  readonly onStream?: (
    message: RequestMessage,
    connection: CoapConnection,
    context: unknown,
  ) => StreamedHandler | undefined;
  /** Sees each message of a request before its blocks are put together: answer it, or hand it on by `serve`. */
  readonly onMessage?: (
    message: RequestMessage,
    connection: CoapConnection,
    serve: (message: RequestMessage, context?: unknown) => Answer,
  ) => Answer;
  /**
   * Default: all messages of a connection are one user's. Who a message is from, by the `context` that `onMessage` gave: blocks
   * of one user's body are never put together with another's.
   */
  readonly principalOf?: (context: unknown) => string;
  /** Sees each message of a request of ours: change it, send it, perhaps again, and give the response. */
  readonly onSend?: (
    message: RequestMessage,
    connection: CoapConnection,
    send: SendMessage,
    context: unknown,
  ) => Promise<ResponseMessage>;
  readonly onDisconnect?: (connection: CoapConnection) => void;
  /** A handler threw; the peer was answered 5.00 with no detail. */
  readonly onFault?: (error: unknown, incoming: IncomingRequest, connection: CoapConnection) => void;
  /**
   * Default none: no Q-Block (RFC 9177), and 4.02 to who tries. Else it is spoken on datagrams, both ways, with these
   * parameters; not where `onMessage` or `onSend` is to see each message, as theirs have no response each. Addresses on
   * plain UDP have to show by Echo that they receive, unless `maxAmplification` is Infinity.
   */
  readonly qBlock?: Partial<QBlockParameters>;
  /** Critical options that `onRequest` obeys, such as If-Match; see the Endpoint's option of this name. */
  readonly applicationOptions?: readonly number[];
  readonly optionFormats?: readonly OptionFormat[];
  /** Messages are forwarded: unknown options that are safe stay in them. */
  readonly proxy?: ForwardingOptions;
  readonly parameters?: Partial<TransmissionParameters>;
  /** As the Endpoint's option of this name. */
  readonly dangerFirstToken?: Uint8Array;
  readonly limits?: Partial<EndpointLimits>;
  readonly blockwise?: Partial<BlockwiseServerOptions>;
  /**
   * Default 3: a response that is more than this many times as long as its request, and longer than 136 bytes, is not sent on
   * plain UDP before the address has shown by Echo that it receives (RFC 9175 §2.3): whoever sends with a false address
   * cannot flood that address through us. Infinity: for clients that do not know Echo, where nobody can send falsely.
   */
  readonly maxAmplification?: number;
  /**
   * Default 10,000 remote addresses on plain UDP. At the limit one of those heard longest ago makes way, if nothing is under
   * way with it and it is idle or has not shown by Echo that it receives; else new ones are dropped. Half of them may observe
   * without having shown that, with half of `limits.maxObservations`; further ones are answered and not told of changes.
   */
  readonly maxPlainPeers?: number;
  /**
   * Default 256 requests of one peer on datagrams that `onRequest` has not answered yet; further ones are answered by 4.29 Too
   * Many Requests (RFC 8516). On TCP and TLS no more than 64 are read.
   */
  readonly maxUnansweredPerPeer?: number;
  /** Default 20,000 in all, some 2 kB each; further ones are answered by 5.03 Service Unavailable. Both say when to come again. */
  readonly maxUnanswered?: number;
  /**
   * Default 64 MiB that all TCP and TLS connections together make us keep: of messages that are not whole yet, and of what
   * their peers do not take. Beyond it whoever has most of it is cut off. Each by itself is held to 66,560 bytes and 1 MiB.
   */
  readonly maxStreamBytes?: number;
}

/** What an endpoint keeps for its peers. */
export interface EndpointUsage {
  readonly connections: number;
  readonly recentMessages: number;
  readonly observations: number;
  /** Requests that `onRequest` has not answered yet. */
  readonly unanswered: number;
  /** Of responses that duplicates would be answered with. */
  readonly recentReplyBytes: number;
  readonly bodyBytes: number;
  /** Of messages on TCP and TLS that are not whole, or not taken by their peers. */
  readonly streamBytes: number;
}
