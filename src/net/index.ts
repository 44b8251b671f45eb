export { CoapConnection, Observation, type RequestOptions } from "./coap-connection.js";
export {
  type Answer,
  CoapEndpoint,
  type CoapEndpointOptions,
  type ObservableResponse,
  type PlainTransport,
} from "./coap-endpoint.js";
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
