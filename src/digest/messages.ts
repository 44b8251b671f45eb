import type { AuthorizationQop, DigestAlgorithm, DigestQop } from "./algorithm.js";

/** A server's challenge (WWW-Authenticate, RFC 7616 §3.3). Bytes are as on the wire of the binding. */
export interface Challenge {
  readonly realm: string;
  readonly nonce: Uint8Array;
  readonly opaque?: Uint8Array;
  /** The refused answer was right in form, but its nonce is no longer good: answer anew with this one. */
  readonly stale: boolean;
  /** Best first; never empty. */
  readonly algorithms: readonly DigestAlgorithm[];
  /** Empty: an answer without qop is asked for (RFC 2617 §3.2.1). */
  readonly qops: readonly DigestQop[];
  /** The server understands a username hash (RFC 7616 §3.4.4). */
  readonly userhash: boolean;
}

/** A client's answer (Authorization, RFC 7616 §3.4), or with no method in its A2 the proof of a DPE-2 response. */
export interface Authorization {
  readonly realm: string;
  readonly nonce: Uint8Array;
  readonly opaque?: Uint8Array;
  readonly algorithm: DigestAlgorithm;
  /** With `none`, cnonce is empty but for a -sess algorithm, and nonceCount 1: a nonce serves once. */
  readonly qop: AuthorizationQop;
  /** The name as text, or its hash as bytes. */
  readonly username: string | Uint8Array;
  readonly cnonce: Uint8Array;
  /** 1 … 0xffffffff. */
  readonly nonceCount: number;
  readonly response: Uint8Array;
}

/** The server's answer to a good Authorization (Authentication-Info, RFC 7616 §3.5). */
export interface AuthenticationInfo {
  readonly rspauth?: Uint8Array;
  /** Use this nonce for what comes next. */
  readonly nextnonce?: Uint8Array;
  readonly qop?: DigestQop;
  readonly nonceCount?: number;
  readonly cnonce?: Uint8Array;
}

/** The message that a digest covers. */
export interface DigestRequest {
  /** The CoAP method's name in upper case, as `POST`. */
  readonly method: string;
  /** Path and query, composed as in RFC 7252 §6.5. */
  readonly uri: string;
  /** The payload of this very message. */
  readonly body: Uint8Array;
}

/** The response that a proof or an rspauth covers: no method (RFC 7616 §3.4.3). */
export type DigestResponse = Omit<DigestRequest, "method">;
