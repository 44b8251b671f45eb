export { recordsOf } from "./dpe2-requests.js";
export type { SubscriberConfig } from "./subscriber-config.js";
export { DpeServer, type ServerParts } from "./dpe-server.js";
export type { ServerWorker } from "./server-listeners.js";
export type { ServerEvent } from "./server-event.js";
export { SERVER_SCHEMA, type ServerConfig } from "./server-config.js";
export type { FollowOptions, FollowStep } from "./endpoint-followers.js";
export type { FleetAnswer } from "./fleet-requests.js";
export { followFleet, type LiveEvent } from "./live-event.js";
export { DEFAULT_LIMITS, type LimitsConfig, storeLimits } from "./limits-config.js";
export { type HttpConfig, isLoopback, type MqttConfig, type OperationConfig } from "./operation-config.js";
export type { NewSubscriber } from "./subscriber-directory.js";
export type { IssuedCode, NewCode, PairingEvent } from "./pairing/pairing.js";
export type { CodeView } from "./pairing/open-codes.js";
export { checkServerCredentials } from "./check-credentials.js";
export { CertificateKeeper, renewOwn } from "./certificate-keeper.js";
export { CertificateFiles, RENEWED_FOR_MS, renewWhatIsDue } from "./certificate-renewal.js";
export {
  CERTIFICATE_ROLES,
  certificateSentence,
  type CertificateRole,
  type OwnCertificate,
  ownCertificates,
} from "./own-certificates.js";
