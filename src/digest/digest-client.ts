import {
  type AuthorizationQop,
  DIGEST_ALGORITHMS,
  DIGEST_QOPS,
  type DigestAlgorithm,
  type DigestQop,
  hashOf,
  isSessionAlgorithm,
} from "./algorithm.js";
import { MAX_NONCE_COUNT, computeHa1, computeUserhash } from "./calculation.js";
import { DigestError } from "./errors.js";
import { decodeHex, encodeHex } from "./hex.js";
import { areEqualBytes, computeRequestResponse, computeRspauth } from "./message-response.js";
import type { AuthenticationInfo, Authorization, Challenge, DigestRequest, DigestResponse } from "./messages.js";
import { type StoredCredential, normalizeUsername } from "./stored-credential.js";

/*
 * One attempt is one message. Flow and transitions:
 *
 *   start ──(no challenge known)──────────► unanswered ──challenge──► answered
 *   start ──(challenge known: preemptive)─► answered
 *   answered ──challenge, stale───► answered-again ──any challenge──► given up
 *   answered ──challenge──────────► given up
 *   unanswered, answered, answered-again ──challenge with nothing shared──► given up
 *
 *   any with an Authorization ──Authentication-Info──► verified | absent | wrong
 */

/**
 * The client's half of Digest for one credential toward one server: remembers the newest challenge, counts `nc` per nonce,
 * answers with the strongest algorithm and qop that both sides have. Never answers below its own options; that the
 * connection is secure enough is the caller's policy. Use one client per association where nonces are bound to it, or call
 * `forgetChallenges` when the association changes.
 */
export class DigestClient {
  readonly #options: DigestClientOptions;
  readonly #username: string;
  #session: Session | undefined;
  /** Sessions of DPE-2 challenges, by nonce, oldest first. */
  readonly #proofSessions = new Map<string, Session>();
  readonly #maxProofNonces: number;

  /** @throws DigestError DIGEST_BAD_USERNAME, DIGEST_BAD_OPTION */
  constructor(options: DigestClientOptions) {
    const { secret } = options;
    this.#options = options;
    this.#username = normalizeUsername("username" in secret ? secret.username : secret.credential.username);
    this.#maxProofNonces = options.maxProofNonces ?? DIGEST_CLIENT_DEFAULTS.maxProofNonces;
    if (!Number.isInteger(this.#maxProofNonces) || this.#maxProofNonces < 1)
      throw new DigestError("DIGEST_BAD_OPTION", `maxProofNonces ${this.#maxProofNonces}`);
  }

  /** Begins the attempt for one message: send it with `attempt.authorization`, or without when that is undefined. */
  attempt(request: DigestRequest): DigestAttempt {
    return new DigestAttempt(this, request);
  }

  /** An Authorization with the next nonce count under the newest challenge; undefined while none is known. */
  authorize(request: DigestRequest): Authorization | undefined {
    const session = this.#session;
    if (session === undefined) return undefined;
    const authorization = this.#sign(session, request);
    if (session.qop === "none" || session.nonceCount >= MAX_NONCE_COUNT) this.#session = undefined;
    return authorization;
  }

  /** Takes a challenge to answer from now on; a cause when this client cannot answer it. */
  takeChallenge(challenge: Challenge): CannotAnswer | undefined {
    const session = this.#openSession(challenge);
    if (typeof session === "string") return session;
    this.#session = session;
    return undefined;
  }

  /**
   * Judges the Authentication-Info of a response against the Authorization that was sent, and takes its nextnonce unless
   * the proof is wrong. `absent` passes only where the caller's policy does not require mutual authentication.
   */
  takeInfo(
    authorization: Authorization,
    info: AuthenticationInfo | undefined,
    response: DigestResponse,
  ): "verified" | "absent" | "wrong" {
    const verdict = this.#judgeInfo(authorization, info, response);
    const session = this.#session;
    const isCurrent = session !== undefined && areEqualBytes(session.nonce, authorization.nonce);
    if (verdict !== "wrong" && info?.nextnonce !== undefined && isCurrent) this.#renewSession(session, info.nextnonce);
    return verdict;
  }

  /**
   * The proof for a DPE-2 response, answering the challenge on its request: as an Authorization whose A2 has no method.
   * Counts `nc` for as long as the nonce is among the last `maxProofNonces`.
   */
  prove(challenge: Challenge, response: DigestResponse): Authorization | CannotAnswer {
    const key = encodeHex(challenge.nonce);
    const session = this.#proofSessions.get(key) ?? this.#openSession(challenge);
    if (typeof session === "string") return session;
    this.#proofSessions.delete(key);
    if (session.nonceCount >= MAX_NONCE_COUNT || (session.qop === "none" && session.nonceCount > 0))
      return "nonce-exhausted";
    this.#proofSessions.set(key, session);
    for (const oldest of this.#proofSessions.keys()) {
      if (this.#proofSessions.size <= this.#maxProofNonces) break;
      this.#proofSessions.delete(oldest);
    }
    return this.#sign(session, { method: "", uri: response.uri, body: response.body });
  }

  /** Forgets the challenge if it is still the one with this nonce: an answer to it was refused. */
  forgetNonce(nonce: Uint8Array): void {
    if (this.#session !== undefined && areEqualBytes(this.#session.nonce, nonce)) this.#session = undefined;
  }

  /** Forgets every challenge, as when an association or the credential changes; the next message goes without answer. */
  forgetChallenges(): void {
    this.#session = undefined;
    this.#proofSessions.clear();
  }

  #judgeInfo(
    authorization: Authorization,
    info: AuthenticationInfo | undefined,
    response: DigestResponse,
  ): "verified" | "absent" | "wrong" {
    if (info?.rspauth === undefined) return "absent";
    // What the server repeats must be what was sent (§3.5); the calculation takes our own values.
    if (info.qop !== undefined && info.qop !== authorization.qop) return "wrong";
    if (info.nonceCount !== undefined && info.nonceCount !== authorization.nonceCount) return "wrong";
    if (info.cnonce !== undefined && !areEqualBytes(info.cnonce, authorization.cnonce)) return "wrong";
    const ha1 = this.#ha1For(authorization.algorithm, authorization.realm);
    if (ha1 === undefined) return "wrong";
    return areEqualBytes(info.rspauth, computeRspauth(authorization, ha1, response)) ? "verified" : "wrong";
  }

  #openSession(challenge: Challenge): Session | CannotAnswer {
    const { realm, nonce, opaque } = challenge;
    const { secret } = this.#options;
    const expectedRealm = "credential" in secret ? secret.credential.realm : secret.realm;
    if (expectedRealm !== undefined && expectedRealm !== realm) return "unexpected-realm";
    const strongest = this.#strongestShared(challenge.algorithms, realm);
    if (strongest === undefined) return "no-shared-algorithm";
    const { algorithm, ha1 } = strongest;
    const qop = this.#strongestQop(challenge.qops);
    if (qop === undefined) return "no-shared-qop";
    const username = challenge.userhash
      ? decodeHex(computeUserhash(hashOf(algorithm), this.#username, realm))
      : this.#username;
    const cnonce = qop === "none" && !isSessionAlgorithm(algorithm) ? NO_CNONCE : this.#options.random(CNONCE_BYTES);
    const session = { realm, nonce: nonce.slice(), algorithm, qop, username, ha1, cnonce, nonceCount: 0 };
    return opaque === undefined ? session : { ...session, opaque: opaque.slice() };
  }

  /**
   * Differs from RFC 7616 §3.6: a nextnonce begins a new -sess session with a cnonce of its own, so that A1 always comes
   * from the nonce and cnonce in the same message, and a server needs to remember neither.
   */
  #renewSession(session: Session, nextnonce: Uint8Array): void {
    const cnonce = this.#options.random(CNONCE_BYTES);
    this.#session = { ...session, nonce: nextnonce.slice(), cnonce, nonceCount: 0 };
  }

  #sign(session: Session, request: DigestRequest): Authorization {
    session.nonceCount += 1;
    const { realm, nonce, opaque, algorithm, qop, username, cnonce, nonceCount } = session;
    const fields = { realm, nonce, algorithm, qop, username, cnonce, nonceCount };
    const response = computeRequestResponse(fields, session.ha1, request);
    return opaque === undefined ? { ...fields, response } : { ...fields, opaque, response };
  }

  #strongestShared(
    offered: readonly DigestAlgorithm[],
    realm: string,
  ): { readonly algorithm: DigestAlgorithm; readonly ha1: Uint8Array } | undefined {
    for (const algorithm of DIGEST_ALGORITHMS) {
      if (!offered.includes(algorithm) || !this.#allows(algorithm)) continue;
      const ha1 = this.#ha1For(algorithm, realm);
      if (ha1 !== undefined) return { algorithm, ha1 };
    }
    return undefined;
  }

  #strongestQop(offered: readonly DigestQop[]): AuthorizationQop | undefined {
    const { dangerAllowNoQop = DIGEST_CLIENT_DEFAULTS.dangerAllowNoQop } = this.#options;
    if (offered.length === 0) return dangerAllowNoQop ? "none" : undefined;
    return DIGEST_QOPS.find((one) => offered.includes(one));
  }

  #allows(algorithm: DigestAlgorithm): boolean {
    return hashOf(algorithm) !== "MD5" || (this.#options.dangerAllowMd5 ?? DIGEST_CLIENT_DEFAULTS.dangerAllowMd5);
  }

  #ha1For(algorithm: DigestAlgorithm, realm: string): Uint8Array | undefined {
    const { secret } = this.#options;
    const hash = hashOf(algorithm);
    if ("credential" in secret) return secret.credential.ha1[hash];
    return decodeHex(computeHa1(hash, this.#username, realm, secret.password.normalize("NFC")));
  }
}

/** One message's way through Digest: at most one answer that counts, and one more when its nonce was stale. */
export class DigestAttempt {
  readonly #client: DigestClient;
  readonly #request: DigestRequest;
  #state: AttemptState;

  /** By `DigestClient.attempt`. */
  constructor(client: DigestClient, request: DigestRequest) {
    this.#client = client;
    this.#request = request;
    const authorization = client.authorize(request);
    this.#state = authorization === undefined ? { type: "unanswered" } : { type: "answered", authorization };
  }

  /** What to send with the message now; undefined: nothing yet. A CoAP retransmission sends the same again. */
  get authorization(): Authorization | undefined {
    return "authorization" in this.#state ? this.#state.authorization : undefined;
  }

  /** Takes the challenge of a refusal: send the message again with the new authorization, or give up. */
  handleChallenge(challenge: Challenge): ChallengeOutcome {
    switch (this.#state.type) {
      case "unanswered":
        return this.#answer(challenge, "answered");
      case "answered":
        return challenge.stale ? this.#answer(challenge, "answered-again") : this.#giveUp("answer-refused");
      case "answered-again":
        return this.#giveUp(challenge.stale ? "stale-again" : "answer-refused");
      case "given-up":
        return { type: "give-up", cause: this.#state.cause };
    }
  }

  /** Judges the Authentication-Info of the response, as `DigestClient.takeInfo`; `absent` when nothing was answered. */
  handleInfo(info: AuthenticationInfo | undefined, response: DigestResponse): "verified" | "absent" | "wrong" {
    const { authorization } = this;
    return authorization === undefined ? "absent" : this.#client.takeInfo(authorization, info, response);
  }

  #answer(challenge: Challenge, type: "answered" | "answered-again"): ChallengeOutcome {
    const cannot = this.#client.takeChallenge(challenge);
    if (cannot !== undefined) return this.#giveUp(cannot);
    const authorization = this.#client.authorize(this.#request);
    if (authorization === undefined) return this.#giveUp("nonce-exhausted");
    this.#state = { type, authorization };
    return { type: "retry", authorization };
  }

  #giveUp(cause: GiveUpCause): ChallengeOutcome {
    // An answer that was refused must not go out again, preemptively, with the next message.
    if (this.authorization !== undefined) this.#client.forgetNonce(this.authorization.nonce);
    this.#state = { type: "given-up", cause };
    return { type: "give-up", cause };
  }
}

export interface DigestClientOptions {
  /**
   * A password, good in the named realm or, with none named, in whichever the server names; or an HA1 credential, good in
   * its own realm and for the hashes it has.
   */
  readonly secret:
    | { readonly username: string; readonly password: string; readonly realm?: string }
    | { readonly credential: StoredCredential };
  /** A cryptographic source, for cnonces. */
  readonly random: (size: number) => Uint8Array;
  /** Answer MD5 and MD5-sess where nothing better is offered. Default false: whoever sees such an answer can try
   * passwords against it fast. */
  readonly dangerAllowMd5?: boolean;
  /** Answer a challenge without qop (RFC 2617 §3.2.2.1). Default false: such an answer holds no randomness of the client's. */
  readonly dangerAllowNoQop?: boolean;
  /** DPE-2 nonces whose counts are kept. Too small for a server that reuses nonces: it sees a replay. Default 32. */
  readonly maxProofNonces?: number;
}

export const DIGEST_CLIENT_DEFAULTS = { dangerAllowMd5: false, dangerAllowNoQop: false, maxProofNonces: 32 } as const;

/** Why a challenge cannot be answered. */
export type CannotAnswer = "unexpected-realm" | "no-shared-algorithm" | "no-shared-qop" | "nonce-exhausted";

export type GiveUpCause = CannotAnswer | "answer-refused" | "stale-again";

export type ChallengeOutcome =
  | { readonly type: "retry"; readonly authorization: Authorization }
  | { readonly type: "give-up"; readonly cause: GiveUpCause };

type AttemptState =
  | { readonly type: "unanswered" }
  | { readonly type: "answered" | "answered-again"; readonly authorization: Authorization }
  | { readonly type: "given-up"; readonly cause: GiveUpCause };

/** What answers one nonce: one cnonce for all its counts, so that a -sess session is one nonce. */
interface Session {
  readonly realm: string;
  readonly nonce: Uint8Array;
  readonly opaque?: Uint8Array;
  readonly algorithm: DigestAlgorithm;
  readonly qop: AuthorizationQop;
  readonly username: string | Uint8Array;
  readonly ha1: Uint8Array;
  readonly cnonce: Uint8Array;
  nonceCount: number;
}

const CNONCE_BYTES = 16;
const NO_CNONCE = new Uint8Array(0);
