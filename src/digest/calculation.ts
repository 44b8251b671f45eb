import { hash } from "node:crypto";
import {
  type AuthorizationQop,
  type DigestAlgorithm,
  type DigestHash,
  hashOf,
  isSessionAlgorithm,
} from "./algorithm.js";
import { DigestError } from "./errors.js";

/*
 * RFC 7616 §3.4, on text exactly as HTTP has it (RFC 2617 §3.2.2 for MD5 with qop):
 *
 *   HA1      = H(username ":" realm ":" password)
 *   A1       = HA1                            | H(HA1 ":" nonce ":" cnonce)         for -sess
 *   A2       = H(method ":" uri)              | H(method ":" uri ":" H(body))       for auth-int
 *   response = H(A1 ":" nonce ":" nc ":" cnonce ":" qop ":" A2)
 *            | H(A1 ":" nonce ":" A2)        without qop (RFC 2617 §3.2.2.1)
 *
 * Every H gives lowercase hex. rspauth is the same with no method (§3.5): A2 starts with the colon.
 */

/** HA1: the credential of one user in one realm, lowercase hex. The texts enter as they are, in UTF-8. */
export function computeHa1(digestHash: DigestHash, username: string, realm: string, password: string): string {
  return h(digestHash, `${username}:${realm}:${password}`);
}

/**
 * The hashed A1 of an algorithm (RFC 7616 §3.4.2), lowercase hex, from an HA1: the HA1 itself, or for -sess the session
 * key of this nonce and cnonce.
 */
export function computeSessionHa1(algorithm: DigestAlgorithm, ha1: string, nonce: string, cnonce: string): string {
  return isSessionAlgorithm(algorithm) ? h(hashOf(algorithm), `${ha1}:${nonce}:${cnonce}`) : ha1;
}

/** The hashed A2 (RFC 7616 §3.4.3), lowercase hex. `method` is empty for rspauth and for a proof. */
export function computeHa2(
  digestHash: DigestHash,
  qop: AuthorizationQop,
  method: string,
  uri: string,
  body: Uint8Array,
): string {
  const a2 = `${method}:${uri}`;
  return h(digestHash, qop === "auth-int" ? `${a2}:${h(digestHash, body)}` : a2);
}

/**
 * The response (RFC 7616 §3.4.1), lowercase hex: with the request's method the client's `response`, with an empty method
 * and the response's body `rspauth`.
 *
 * @throws DigestError DIGEST_BAD_NONCE_COUNT
 */
export function computeResponse(input: ResponseInput): string {
  const { algorithm, qop, nonce, cnonce } = input;
  const digestHash = hashOf(algorithm);
  const a1 = computeSessionHa1(algorithm, input.ha1, nonce, cnonce);
  const a2 = computeHa2(digestHash, qop, input.method, input.uri, input.body);
  if (qop === "none") return h(digestHash, `${a1}:${nonce}:${a2}`);
  return h(digestHash, `${a1}:${nonce}:${encodeNonceCount(input.nonceCount)}:${cnonce}:${qop}:${a2}`);
}

/** The username hash (RFC 7616 §3.4.4), lowercase hex. */
export function computeUserhash(digestHash: DigestHash, username: string, realm: string): string {
  return h(digestHash, `${username}:${realm}`);
}

/** What a response is computed from: texts as in the HTTP header, unquoted. */
export interface ResponseInput {
  readonly algorithm: DigestAlgorithm;
  readonly qop: AuthorizationQop;
  /** HA1 of the algorithm's hash, lowercase hex; never the session key, which is derived here. */
  readonly ha1: string;
  readonly nonce: string;
  readonly cnonce: string;
  /** 1 … 0xffffffff. */
  readonly nonceCount: number;
  readonly method: string;
  readonly uri: string;
  /** The entity-body; enters for auth-int only. */
  readonly body: Uint8Array;
}

/** The greatest nonce count: `nc` has eight hex digits (RFC 7616 §3.4). */
export const MAX_NONCE_COUNT = 0xffff_ffff;

/** Whether a number is a nonce count: a whole number 1 … 0xffffffff. */
export function isNonceCount(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= MAX_NONCE_COUNT;
}

/** `nc` as eight lowercase hex digits. */
function encodeNonceCount(value: number): string {
  if (!isNonceCount(value)) throw new DigestError("DIGEST_BAD_NONCE_COUNT", `nonce count ${value} is not in 1…2³²−1`);
  return value.toString(16).padStart(8, "0");
}

function h(digestHash: DigestHash, data: string | Uint8Array): string {
  return hash(NODE_HASH_NAMES[digestHash], data, "hex");
}

const NODE_HASH_NAMES: Readonly<Record<DigestHash, string>> = {
  MD5: "md5",
  "SHA-256": "sha256",
  "SHA-512-256": "sha512-256",
};
