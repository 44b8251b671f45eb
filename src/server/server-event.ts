import type { AccountingEvent } from "#radius/index.js";
import type { Registration } from "#dpe/index.js";
import type { AuditEvent } from "#security/index.js";
import type { SenmlRecord } from "#senml/index.js";
import type { CertificateRole } from "./own-certificates.js";
import type { PairingEvent } from "./pairing/pairing.js";

/** What a server tells of its work; none of it holds a secret. */
export type ServerEvent =
  | { readonly type: "registered"; readonly registration: Registration }
  | { readonly type: "report"; readonly registration: Registration; readonly records: readonly SenmlRecord[] }
  | { readonly type: "gone"; readonly registration: Registration; readonly cause: "deregistered" | "expired" }
  /** Two devices register under this name by turns, from these addresses: a mistake in a configuration, or a credential that was copied. */
  | { readonly type: "name-contested"; readonly endpoint: string; readonly peers: readonly string[] }
  | { readonly type: "authentication-error"; readonly peer: string; readonly error: string; readonly rule: string }
  | { readonly type: "audit"; readonly event: AuditEvent }
  /** Credentials and subscribers were read anew; `waiting` are the keys that have changed and hold from the next start only. */
  | { readonly type: "reloaded"; readonly associationsEnded: number; readonly waiting: readonly string[] }
  /** The peer of an association sends from another address, and the association goes on there. */
  | { readonly type: "address-changed"; readonly peer: string; readonly previous: string }
  /** Its records came from another address, where it did not prove that it receives: the association stays at `peer`. */
  | { readonly type: "address-refused"; readonly peer: string; readonly candidate: string }
  | { readonly type: "association-ended"; readonly peer: string; readonly cause: string }
  | {
      readonly type: "associations-restored";
      readonly restored: number;
      readonly refused: number;
      /** Why the file was not used at all. */
      readonly refusal?: string;
    }
  | { readonly type: "handshake-failed"; readonly peer: string; readonly cause: string }
  | {
      readonly type: "client-error";
      readonly peer: string;
      readonly subscriber: string | undefined;
      readonly authError: number | undefined;
    }
  | { readonly type: "pairing"; readonly event: PairingEvent }
  | { readonly type: "radius"; readonly event: AccountingEvent }
  /** A certificate of the server's own, or of a CA that it trusts, is in the last 30 days or quarter of its life. `validUntil` is ms since 1970. */
  | {
      readonly type: "certificate-ending";
      readonly role: CertificateRole;
      readonly subject: string;
      readonly validUntil: number;
    }
  | { readonly type: "certificate-renewed"; readonly role: CertificateRole; readonly validUntil: number }
  | { readonly type: "certificate-renewal-failed"; readonly error: unknown }
  | { readonly type: "fault"; readonly error: unknown };
