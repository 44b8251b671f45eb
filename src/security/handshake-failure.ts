import type { InterfaceName } from "#dpe/index.js";
import type { AuditEvent } from "./audit-event.js";

/**
 * A handshake that failed, as an event of the audit trail: its cause is the TLS alert that was sent or received, so that both
 * sides name the same; where no alert goes (a time-out) the error's code. The detail says more of what was found here.
 */
export function handshakeFailure(error: HandshakeError | undefined, where: HandshakePlace): AuditEvent {
  const verdict = verdictOf(error?.cause);
  const isReceived = error?.receivedAlert !== undefined;
  const cause = error?.receivedAlert ?? verdict?.alert ?? error?.alert ?? error?.code ?? "closed";
  const detail = isReceived ? "alert received" : (verdict?.fault ?? error?.code);
  return {
    ...where,
    outcome: "failure",
    mode: "handshake",
    subscriber: undefined,
    connection: "dtls",
    rule: isReceived ? "the peer ended the handshake" : `${where.interface}: the handshake`,
    cause,
    ...(detail === undefined ? {} : { detail }),
  };
}

/** Where and when, by whom it was found. */
export interface HandshakePlace {
  readonly time: number;
  readonly interface: InterfaceName;
  readonly side: "server" | "client";
  readonly peer: string;
}

/** The error of a DTLS handshake, as far as it matters here. */
export interface HandshakeError {
  readonly code: string;
  readonly receivedAlert: string | undefined;
  /** The alert that it is told by. */
  readonly alert: string | undefined;
  /** The verdict of a verifier of certificates, where that is why. */
  readonly cause?: unknown;
}

function verdictOf(
  cause: unknown,
): { readonly alert: string | undefined; readonly fault: string | undefined } | undefined {
  if (typeof cause !== "object" || cause === null || !("alert" in cause)) return undefined;
  const fault = "cause" in cause && typeof cause.cause === "string" ? cause.cause : undefined;
  return { alert: typeof cause.alert === "string" ? cause.alert : undefined, fault };
}
