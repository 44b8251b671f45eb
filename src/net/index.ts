export { CoapConnection, Observation, type RequestOptions } from "./coap-connection.js";
export { CoapEndpoint } from "./coap-endpoint.js";
export {
  CoapStream,
  connectStream,
  listenStream,
  type PeerIdentity,
  type StreamClientTls,
  type StreamListener,
  type StreamListenOptions,
  type StreamServerTls,
} from "./coap-stream.js";
export type { PlainTransport } from "./plain-peers.js";
export type {
  Answer,
  CoapEndpointOptions,
  EndpointUsage,
  ObservableResponse,
  SendMessage,
} from "./coap-endpoint-options.js";
export { connect, DtlsEndpoint, type EndpointOptions, listen } from "./dtls-endpoint.js";
export { DtlsSession, type PskAnswer } from "./dtls-session.js";
export { NetError, type NetErrorCode } from "./net-error.js";
export {
  formatAddress,
  monotonicNow,
  resolveHost,
  type SocketAddress,
  UdpSocket,
  type UdpSocketOptions,
} from "./udp-socket.js";
export {
  CIPHER_SUITES,
  type CipherSuiteName,
  type ClientOptions,
  DtlsError,
  type PeerInfo,
  type ServerOptions,
} from "#dtls/index.js";
