export type { AssociationFacts, LowerLayerIdentity } from "./association-facts.js";
export { authErrorOf, ClientAuthenticator } from "./client-authenticator.js";
export {
  CLIENT_AUTHENTICATIONS,
  type ClientAuthentication,
  type Decision,
  decide,
  type DigestFault,
  type InterfacePolicy,
  type Offer,
} from "./decision.js";
export {
  decodeAuthorization,
  decodeChallenge,
  decodeInfo,
  type DigestScope,
  encodeAuthorization,
  encodeChallenge,
  encodeInfo,
  type ScopedChallenge,
} from "./digest-options.js";
export { digestUri } from "./digest-uri.js";
export { SecurityError, type SecurityErrorCode } from "./errors.js";
export { type ExternalIdentities, NO_EXTERNAL_IDENTITIES } from "./external-identities.js";
export { problem, refusal } from "./refusal.js";
export {
  type GuardDigest,
  type GuardPolicy,
  type GuardSurroundings,
  type Judgement,
  ServerGuard,
} from "./server-guard.js";
export {
  canonicalAddress,
  decodeSubscriberIdentity,
  encodeSubscriberIdentity,
  formatSubscriberIdentity,
  parseSubscriberIdentity,
  subscriberIdentity,
  type SubscriberIdentity,
} from "./subscriber-identity.js";
export { mayRegister, mayUse, type Subscriber, Subscribers } from "./subscribers.js";
