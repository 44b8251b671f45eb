import { createHmac, type KeyObject } from "node:crypto";
import {
  DIGEST_HASH_BYTES,
  type DigestAlgorithm,
  type DigestHash,
  type DigestQop,
  hashOf,
  isSessionAlgorithm,
} from "./algorithm.js";
import { computeUserhash, isNonceCount } from "./calculation.js";
import { decodeHex } from "./hex.js";
import { areEqualBytes, computeRequestResponse, computeRspauth } from "./message-response.js";
import type { AuthenticationInfo, Authorization, Challenge, DigestRequest, DigestResponse } from "./messages.js";
import type { NonceKeeper, NonceVerdict } from "./nonce-keeper.js";
import type { StoredCredential } from "./stored-credential.js";

/** A fresh challenge of this policy; state begins with its first authentic answer. */
export function createChallenge(
  policy: DigestPolicy,
  keeper: NonceKeeper,
  now: number,
  options: { readonly stale?: boolean; readonly association?: Uint8Array | undefined } = {},
): Challenge {
  const { realm, algorithms, qops, userhash } = policy;
  const nonce = keeper.issue(now, options.association);
  return { realm, nonce, stale: options.stale ?? false, algorithms, qops, userhash };
}

/**
 * Judges a request's Authorization. The caller has looked the credential up by the Authorization's username and calls this
 * whether it found one or not: a name unknown, a hash that the credential lacks and a wrong password take the same path, to
 * the same answer. CoAP deduplication comes first, so that a retransmission is not taken for a replay.
 *
 * In order: method allowed, realm, nonce, response, nonce count. The nonce is judged before any credential is looked at, so
 * that stale tells nothing about one; the count is taken only from an authentic response.
 */
export function verifyAuthorization(
  authorization: Authorization,
  request: DigestRequest,
  context: VerificationContext,
  now: number,
): AuthorizationVerdict {
  const verdict = verify(authorization, request, context, now);
  if (!verdict.ok) return verdict;
  const { ha1, needsRenewal, credential } = verdict;
  const { keeper } = context;
  const { algorithm, qop, nonceCount, cnonce } = authorization;
  // A nextnonce would end the session that a -sess A1 belongs to (§3.4.2); such a client gets stale in time instead.
  const nextnonce =
    needsRenewal && !isSessionAlgorithm(algorithm) ? keeper.issue?.(now, context.association) : undefined;
  return {
    ok: true,
    credential,
    authenticationInfo: (response) => ({
      rspauth: computeRspauth(authorization, ha1, response),
      ...(qop === "none" ? {} : { qop, nonceCount, cnonce }),
      ...(nextnonce === undefined ? {} : { nextnonce }),
    }),
  };
}

/**
 * Judges the proof of a DPE-2 response, whose A2 is that of rspauth: no method. It must answer the very challenge that the
 * request carried. Refusals as for `verifyAuthorization`.
 */
export function verifyProof(
  proof: Authorization,
  response: DigestResponse,
  challenge: Challenge,
  context: VerificationContext,
  now: number,
): ProofVerdict {
  if (!areEqualBytes(proof.nonce, challenge.nonce)) return refuse("invalid-credentials", "other-challenge");
  const verdict = verify(proof, { ...response, method: "" }, context, now);
  return verdict.ok ? { ok: true, credential: verdict.credential } : verdict;
}

/** What a server accepts in one realm. */
export interface DigestPolicy {
  readonly realm: string;
  /** Best first. MD5 and MD5-sess only where the operator turned them on. */
  readonly algorithms: readonly DigestAlgorithm[];
  readonly qops: readonly DigestQop[];
  /**
   * Accept answers without qop too (RFC 2617 §3.2.2.1). They are not bound to a count or to the client's own randomness;
   * here each nonce serves one of them. Default false.
   */
  readonly dangerAllowNoQop?: boolean;
  /** Challenges say that a username hash is understood; the caller can then look one up. */
  readonly userhash: boolean;
}

/** What an answer is judged by. */
export interface VerificationContext {
  readonly policy: DigestPolicy;
  readonly keeper: NonceJudge;
  /** The subscriber's credential; undefined when there is none of that name. */
  readonly credential: StoredCredential | undefined;
  /** Secret from which HA1 values for unknown users come: 32 random bytes. */
  readonly dummyKey: KeyObject;
  /**
   * Any credential that there is, by any number: an unknown user is compared with it, as one that is known is with its own, so
   * that the same memory is looked at. Undefined where there is none.
   */
  readonly decoy?: (number: number) => StoredCredential | undefined;
  /** The association on which the message came, when nonces are bound to it. */
  readonly association?: Uint8Array | undefined;
}

/** What judges the nonce of an answer, and counts its use. */
export type NonceJudge = Pick<NonceKeeper, "judge" | "accept"> & Partial<Pick<NonceKeeper, "issue">>;

export type AuthorizationVerdict =
  | {
      readonly ok: true;
      readonly credential: StoredCredential;
      /** Digest-Info for a response, once its body is known: rspauth, and a nextnonce when the nonce grows old. */
      readonly authenticationInfo: (response: DigestResponse) => AuthenticationInfo;
    }
  | DigestRefusal;

export type ProofVerdict = { readonly ok: true; readonly credential: StoredCredential } | DigestRefusal;

/** A refusal by its Auth-Error name. `cause` is for the operator's log: the peer must not learn it. */
export interface DigestRefusal {
  readonly ok: false;
  readonly error: "invalid-credentials" | "stale-nonce" | "replayed" | "unsupported-method";
  readonly cause: DigestRefusalCause;
}

export type DigestRefusalCause =
  | "algorithm"
  | "qop"
  | "realm"
  | "nonce-count"
  | "forged-nonce"
  | "other-challenge"
  | "unknown-user"
  | "no-such-hash"
  | "wrong-response"
  | "nonce-count-seen"
  | `nonce-${Extract<NonceVerdict, { readonly type: "stale" }>["cause"]}`;

type Verdict =
  | {
      readonly ok: true;
      readonly credential: StoredCredential;
      readonly ha1: Uint8Array;
      readonly needsRenewal: boolean;
    }
  | DigestRefusal;

function verify(
  authorization: Authorization,
  message: DigestRequest,
  context: VerificationContext,
  now: number,
): Verdict {
  const { policy, keeper, credential } = context;
  const { algorithm, qop, nonce, nonceCount } = authorization;
  if (!policy.algorithms.includes(algorithm)) return refuse("unsupported-method", "algorithm");
  const isQopAllowed = qop === "none" ? policy.dangerAllowNoQop === true : policy.qops.includes(qop);
  if (!isQopAllowed) return refuse("unsupported-method", "qop");
  if (authorization.realm !== policy.realm) return refuse("invalid-credentials", "realm");
  if (!isNonceCount(nonceCount) || (qop === "none" && nonceCount !== 1))
    return refuse("invalid-credentials", "nonce-count");

  const nonceVerdict = keeper.judge(nonce, now, context.association);
  if (nonceVerdict.type === "stale") return refuse("stale-nonce", `nonce-${nonceVerdict.cause}`);
  if (nonceVerdict.type === "forged") return refuse("invalid-credentials", "forged-nonce");

  // From here to the comparison there is no branch on whether the credential exists.
  const hash = hashOf(algorithm);
  const dummy = dummyHa1(context.dummyKey, hash, policy.realm, authorization.username);
  const decoy = context.decoy?.(new DataView(dummy.buffer, dummy.byteOffset).getUint32(0));
  const compared = credential ?? decoy ?? NO_CREDENTIAL;
  const isNamed = namesCredential(authorization, hash, compared);
  const isKnown = credential !== undefined && credential.realm === policy.realm && isNamed;
  const storedHa1 = compared.ha1[hash];
  const ha1 = chosen(isKnown, storedHa1 ?? dummy, dummy);
  const expected = computeRequestResponse(authorization, ha1, message);
  const isMatch = areEqualBytes(authorization.response, expected);
  if (!isKnown) return refuse("invalid-credentials", "unknown-user");
  if (storedHa1 === undefined) return refuse("invalid-credentials", "no-such-hash");
  if (!isMatch) return refuse("invalid-credentials", "wrong-response");

  if (keeper.accept(nonce, nonceCount, now) === "replayed") return refuse("replayed", "nonce-count-seen");
  return { ok: true, credential, ha1, needsRenewal: nonceVerdict.needsRenewal };
}

/** Whether an Authorization names this credential, by its name or its hash. The caller may have looked up by either. */
function namesCredential(authorization: Authorization, hash: DigestHash, credential: StoredCredential): boolean {
  const { username } = authorization;
  if (typeof username === "string") return username.normalize("NFC") === credential.username.normalize("NFC");
  return areEqualBytes(username, decodeHex(computeUserhash(hash, credential.username, credential.realm)));
}

/** An HA1 that nobody has: the same for the same name each time, and not to be told from a real one without the key. */
function dummyHa1(key: KeyObject, hash: DigestHash, realm: string, username: string | Uint8Array): Uint8Array {
  const mac = createHmac("sha256", key).update(`${hash}:${realm}:`).update(username).digest();
  return mac.subarray(0, DIGEST_HASH_BYTES[hash]);
}

/** Either of two arrays of one length, copied, by reading both. */
function chosen(isFirst: boolean, first: Uint8Array, second: Uint8Array): Uint8Array {
  const mask = -Number(isFirst);
  return second.map((byte, index) => (mask & (first[index] ?? 0)) | (~mask & byte));
}

function refuse(error: DigestRefusal["error"], cause: DigestRefusalCause): DigestRefusal {
  return { ok: false, error, cause };
}

const NO_CREDENTIAL: StoredCredential = { username: "", realm: "", ha1: {} };
