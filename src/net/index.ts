export type { AssociationStore, KeptAssociation } from "./association-store.js";
export type { StreamedBody } from "./body-reader.js";
export { CoapConnection, Observation, type RequestOptions, type StreamedResponse } from "./coap-connection.js";
export { CoapEndpoint } from "./coap-endpoint.js";
export { CoapStream, type PeerIdentity } from "./coap-stream.js";
export { connectStream, type StreamClientTls, type StreamConnectOptions } from "./stream-connect.js";
export {
  listenStream,
  type StreamListener,
  type StreamListenOptions,
  type StreamRefusal,
  type StreamServerCredentials,
  type StreamServerTls,
} from "./stream-listener.js";
export type { PlainTransport } from "./plain-peers.js";
export type {
  Answer,
  CoapEndpointOptions,
  EndpointUsage,
  ObservableResponse,
  SendMessage,
  StreamedHandler,
  StreamedRequest,
} from "./coap-endpoint-options.js";
export { connect, listen, untilOpened } from "./dtls-connect.js";
export { DtlsEndpoint } from "./dtls-endpoint.js";
export {
  ENDPOINT_DEFAULTS,
  ENDPOINT_DROP_REASONS,
  type EndpointDropReason,
  type EndpointOptions,
  type SessionStore,
} from "./endpoint-options.js";
export { DtlsSession } from "./dtls-session.js";
export type { RestoredCounts } from "./session-keeper.js";
export type { PskAnswer, SessionAnswer } from "./session-surroundings.js";
export { FileAssociationStore, type StoreRefusal } from "./file-association-store.js";
export { NetError, type NetErrorCode } from "./net-error.js";
export { watchRefusals } from "./refusals.js";
export {
  canSharePorts,
  formatAddress,
  monotonicNow,
  resolveHost,
  resolveHosts,
  boundToward,
  type LocalSocket,
  type SocketAddress,
  UdpSocket,
  type UdpSocketOptions,
} from "./udp-socket.js";
export { STEERING_DEFAULTS, type SteeringCounters, type SteeringOptions, WorkerSteering } from "./worker-steering.js";
export {
  CIPHER_SUITE_NAMES,
  CIPHER_SUITES,
  type CipherSuiteName,
  type ClientOptions,
  DROP_REASONS,
  DTLS_DEFAULTS,
  DTLS_ERRORS,
  DtlsError,
  type DtlsErrorCode,
  type PeerInfo,
  type ServerOptions,
  SharedKeys,
} from "#dtls/index.js";
