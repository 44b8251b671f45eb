import type { AuthErrorName, ConnectionLevel, InterfaceName } from "#dpe/index.js";
import type { ClientAuthentication, ServerAuthentication } from "./policy.js";

/**
 * One authentication that succeeded or failed, on either side. Holds no secret: neither a password, key, hash or nonce, nor
 * anything that was computed from one. What a peer wrote itself (a name) is cut to 128 characters, controls replaced.
 */
export interface AuditEvent {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly outcome: "success" | "failure";
  readonly interface: InterfaceName;
  /** Who decided: the server on a client, or the client on a server. */
  readonly side: "server" | "client";
  readonly mode: AuditMode | undefined;
  /** Known, or as the peer claims on a failure. */
  readonly subscriber: string | undefined;
  /** Address and port. */
  readonly peer: string;
  readonly connection: ConnectionLevel;
  /** The rule that decided, such as `dpe1.clientAuthentication: digest`. */
  readonly rule: string;
  /** `accepted`, the name of an authentication error, or of a TLS alert. */
  readonly cause: AuthErrorName | "accepted" | (string & {});
  /** More for the operator, never told to the peer: `wrong-response`, `expired`. */
  readonly detail?: string;
  /** What was offered, by mode; `dpe explain` decides on it again. */
  readonly offer?: Readonly<Record<string, string>>;
}

/** The lower layer where a handshake failed before any mode could be told; and a one-time code. */
export type AuditMode = ClientAuthentication | ServerAuthentication | "handshake" | "pairing";

/** What a peer wrote, as it may stand in a log. */
export function cleanText(text: string): string {
  return text.slice(0, MAX_TEXT).replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "\u{FFFD}");
}

const MAX_TEXT = 128;
