export {
  DIGEST_ALGORITHMS,
  DIGEST_HASHES,
  DIGEST_HASH_BYTES,
  DIGEST_QOPS,
  hashOf,
  isSessionAlgorithm,
  type AuthorizationQop,
  type DigestAlgorithm,
  type DigestHash,
  type DigestQop,
} from "./algorithm.js";
export {
  MAX_NONCE_COUNT,
  computeHa1,
  computeHa2,
  computeResponse,
  computeSessionHa1,
  computeUserhash,
  isNonceCount,
  type ResponseInput,
} from "./calculation.js";
export { DIGEST_ERROR_CODES, DigestError, type DigestErrorCode } from "./errors.js";
export type { AuthenticationInfo, Authorization, Challenge, DigestRequest, DigestResponse } from "./messages.js";
export { computeRequestResponse, computeRspauth, type ResponseFields } from "./message-response.js";
export { createStoredCredential, normalizeUsername, type StoredCredential } from "./stored-credential.js";
export { ExchangeNonce } from "./exchange-nonce.js";
export { NONCE_COUNT_WINDOW } from "./nonce-count-window.js";
export {
  NONCE_BYTES,
  NONCE_KEEPER_DEFAULTS,
  NonceKeeper,
  type NonceKeeperOptions,
  type NonceVerdict,
} from "./nonce-keeper.js";
export {
  createChallenge,
  verifyAuthorization,
  verifyProof,
  type AuthorizationVerdict,
  type DigestPolicy,
  type DigestRefusal,
  type DigestRefusalCause,
  type ProofVerdict,
  type NonceJudge,
  type VerificationContext,
} from "./verification.js";
export {
  DIGEST_CLIENT_DEFAULTS,
  DigestClient,
  type CannotAnswer,
  type ChallengeOutcome,
  type DigestAttempt,
  type DigestClientOptions,
  type GiveUpCause,
} from "./digest-client.js";
export { conceal } from "./conceal.js";
