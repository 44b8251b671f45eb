import { createSecretKey, type KeyObject } from "node:crypto";
import { methodName, type RequestMessage } from "#coap/index.js";
import {
  type AuthenticationInfo,
  createChallenge,
  type DigestAlgorithm,
  type DigestPolicy,
  type DigestQop,
  type DigestRefusalCause,
  type DigestResponse,
  hashOf,
  NonceKeeper,
  verifyAuthorization,
} from "#digest/index.js";
import { BINDING_OPTION } from "#dpe/index.js";
import type { AssociationFacts } from "./association-facts.js";
import type { DigestFault } from "./decide-on-client.js";
import { decodeAuthorization, type DigestScope, type ScopedChallenge } from "./digest-options.js";
import { digestUri } from "./digest-uri.js";
import { SecurityError } from "./errors.js";
import { FailureLimits, type FailureLimitOptions } from "./failure-limits.js";
import type { GbaCredentials, GbaLookup, GbaSubscriber } from "./gba-credentials.js";
import type { Subscriber, Subscribers } from "./subscribers.js";

/**
 * The server's half of Digest at one interface: challenges without state, answers verified, and back-off after failures.
 * Nonces belong to the association, or on plain UDP to the address: so an answer proves the address that it came from.
 */
export class ServerDigest {
  readonly #options: GuardDigest;
  readonly #subscribers: Subscribers;
  readonly #nonces: NonceKeeper;
  readonly #dummyKey: KeyObject;
  readonly #limits: FailureLimits;
  readonly #gba: GbaCredentials | undefined;

  constructor(
    options: GuardDigest,
    subscribers: Subscribers,
    random: (size: number) => Uint8Array,
    gba?: GbaCredentials,
  ) {
    this.#gba = gba;
    this.#options = options;
    this.#subscribers = subscribers;
    this.#nonces = new NonceKeeper({ key: random(KEY_BYTES), random });
    this.#dummyKey = createSecretKey(random(KEY_BYTES));
    this.#limits = new FailureLimits(options.failures);
  }

  /**
   * Judges the Digest-Authorization of a message; undefined where it has none. An unknown name takes the same way as a wrong
   * password, back-off included. @throws SecurityError SECURITY_BAD_OPTION.
   */
  verify(message: RequestMessage, association: AssociationFacts, now: number): DigestVerdict | undefined {
    const value = message.options.get(BINDING_OPTION.DigestAuthorization);
    if (value === undefined) return undefined;
    const authorization = decodeAuthorization(value);
    const { realm, algorithm, username } = authorization;
    const bootstrapped = typeof username === "string" ? this.#gba?.find(username, now) : undefined;
    const subscriber =
      bootstrapped === undefined
        ? this.#subscribers.ofUsername(username, realm, hashOf(algorithm))
        : this.#ofGba(bootstrapped.subscriber);
    const claimed = typeof username === "string" ? username : Buffer.from(username).toString("hex");
    const waitMs = this.#limits.waitMs(claimed, association.address, now);
    if (waitMs > 0) return { offer: "too-many-failures", claimed, waitMs };
    const verdict = verifyAuthorization(
      authorization,
      { method: methodName(message.code) ?? "", uri: digestUri(message.options), body: message.payload },
      {
        policy: digestPolicy(this.#options),
        keeper: this.#nonces,
        credential: bootstrapped?.credential ?? subscriber?.digest,
        dummyKey: this.#dummyKey,
        decoy: this.#subscribers.decoy,
        association: nonceBinding(association),
      },
      now,
    );
    if (verdict.ok && subscriber !== undefined) {
      this.#limits.succeeded(claimed, association.address, now);
      return {
        offer: subscriber,
        claimed,
        info: verdict.authenticationInfo,
        ...(bootstrapped === undefined ? {} : { expiresAt: bootstrapped.expiresAt }),
      };
    }
    if (verdict.ok) return { offer: "invalid-credentials", claimed };
    if (GUESSES.has(verdict.cause)) this.#limits.failed(claimed, association.address, now);
    return { offer: verdict.error, claimed, detail: verdict.cause };
  }

  /**
   * Asks the resolver for the credential of a B-TID that a message names, where it is to be asked: only for whoever answers
   * a challenge of ours, so that nobody else makes it work. Undefined: verify at once.
   */
  lookUp(
    message: RequestMessage,
    association: AssociationFacts,
    now: number,
  ): Promise<GbaLookup> | GbaLookup | undefined {
    const value = message.options.get(BINDING_OPTION.DigestAuthorization);
    if (value === undefined || this.#gba === undefined) return undefined;
    const authorization = authorizationIn(value);
    if (authorization === undefined) return undefined;
    const { username, realm, algorithm, nonce } = authorization;
    if (typeof username !== "string" || realm !== this.#gba.realm) return undefined;
    if (this.#subscribers.ofUsername(username, realm, hashOf(algorithm)) !== undefined) return undefined;
    if (this.#limits.waitMs(username, association.address, now) > 0) return undefined;
    if (this.#nonces.judge(nonce, now, nonceBinding(association)).type !== "valid") return undefined;
    return this.#gba.lookUp(username, now);
  }

  #ofGba(subscriber: GbaSubscriber): Subscriber | undefined {
    return "name" in subscriber
      ? this.#subscribers.named(subscriber.name)
      : this.#subscribers.ofIdentity(subscriber.identity);
  }

  challenge(association: AssociationFacts, now: number, stale: boolean): ScopedChallenge {
    const base = createChallenge(digestPolicy(this.#options), this.#nonces, now, {
      stale,
      association: nonceBinding(association),
    });
    return { ...base, scope: association.connection === "dtls" ? this.#options.scope : "request" };
  }
}

export interface GuardDigest {
  readonly realm: string;
  readonly algorithms: readonly DigestAlgorithm[];
  readonly qops: readonly DigestQop[];
  readonly scope: DigestScope;
  /** Challenges say that the name may come hashed (RFC 7616 §3.4.4). Default false. */
  readonly userhash?: boolean;
  /** Accept answers without qop too (RFC 2617 §3.2.2.1). Default false. */
  readonly dangerAllowNoQop?: boolean;
  readonly failures?: Partial<FailureLimitOptions>;
}

/** What an answer came to. */
export interface DigestVerdict {
  readonly offer: Subscriber | DigestFault;
  /** The name, or its hash in hex, as the peer wrote it. */
  readonly claimed: string;
  /** For the log only. */
  readonly detail?: string;
  readonly waitMs?: number;
  /** When the credential ends, ms since 1970; for one that does. */
  readonly expiresAt?: number;
  readonly info?: (response: DigestResponse) => AuthenticationInfo;
}

/** What is malformed is left to verification, which says what. */
function authorizationIn(value: Uint8Array): ReturnType<typeof decodeAuthorization> | undefined {
  try {
    return decodeAuthorization(value);
  } catch (error) {
    if (error instanceof SecurityError) return undefined;
    throw error;
  }
}

/** The policy of the digest layer that an interface's options come to. */
export function digestPolicy({
  realm,
  algorithms,
  qops,
  userhash = false,
  dangerAllowNoQop = false,
}: GuardDigest): DigestPolicy {
  return { realm, algorithms, qops, userhash, dangerAllowNoQop };
}

function nonceBinding({ binding, address }: AssociationFacts): Uint8Array {
  return binding ?? TEXT_ENCODER.encode(address);
}

/** Refusals that cost an attacker a guess: the nonce was ours and this address's, so nobody else is made to pay. */
const GUESSES: ReadonlySet<DigestRefusalCause> = new Set(["unknown-user", "no-such-hash", "wrong-response"]);
const KEY_BYTES = 32;
const TEXT_ENCODER = new TextEncoder();
