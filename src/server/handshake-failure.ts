import type { DtlsError } from "#net/index.js";
import type { AuditEvent } from "#security/index.js";

/**
 * A handshake that failed, as an event of the audit trail: its cause is the TLS alert that was sent or received, so that both
 * sides name the same; where no alert goes (a time-out) the error's code. The detail says more of what was found here.
 */
export function handshakeFailure(peer: string, error: DtlsError | undefined, time: number): AuditEvent {
  const verdict = verdictOf(error?.cause);
  const isReceived = error?.receivedAlert !== undefined;
  const cause = error?.receivedAlert ?? verdict?.alert ?? error?.alert ?? error?.code ?? "closed";
  const detail = isReceived ? "alert received" : (verdict?.cause ?? error?.code);
  return {
    time,
    outcome: "failure",
    interface: "dpe1",
    side: "server",
    mode: "handshake",
    subscriber: undefined,
    peer,
    connection: "dtls",
    rule: isReceived ? "the peer ended the handshake" : "dtls: the handshake",
    cause,
    ...(detail === undefined ? {} : { detail }),
  };
}

/** What a verifier of certificates said, when that is why. */
export function verdictOf(
  cause: unknown,
): { readonly alert: string | undefined; readonly cause: string | undefined } | undefined {
  if (typeof cause !== "object" || cause === null || !("alert" in cause)) return undefined;
  const fault = "cause" in cause && typeof cause.cause === "string" ? cause.cause : undefined;
  return { alert: typeof cause.alert === "string" ? cause.alert : undefined, cause: fault };
}
