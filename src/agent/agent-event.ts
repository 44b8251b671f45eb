import type { AuditEvent } from "#security/index.js";

/** What an agent tells of its work; none of it holds a secret. */
export type AgentEvent =
  /** Readings that waited on disk since an earlier start; `damaged` of the file could not be read, or reported, and are dropped. */
  | { readonly type: "restored"; readonly readings: number; readonly damaged: number }
  | { readonly type: "registered"; readonly endpoint: string; readonly server: string }
  /** The server has these readings, after `tookMs` from sending them; `unsent` ones still wait. */
  | { readonly type: "reported"; readonly properties: number; readonly unsent: number; readonly tookMs: number }
  /** The device's certificate was renewed; `validUntil` is ms since 1970. */
  | { readonly type: "renewed"; readonly validUntil: number }
  /** The server's certificates lead to other anchors now, so many, and those are trusted from the next handshake on. */
  | { readonly type: "trust-renewed"; readonly anchors: number }
  | { readonly type: "renewal-failed"; readonly error: unknown; readonly retryAt: number }
  | { readonly type: "queried"; readonly path: string }
  /** The server or the network is gone, or does not answer who looks for it; nothing is lost by that. `next` is tried then. */
  | { readonly type: "lost"; readonly error: unknown; readonly retryInMs: number; readonly next: string }
  /** The server leaves a request open and shows no sign of life: it, or another, is looked for; the association is held. */
  | { readonly type: "silent"; readonly server: string }
  /** It is heard again on that association, which goes on. */
  | { readonly type: "heard"; readonly server: string }
  /** That association leads nowhere, and another one was opened there: what was not acknowledged is reported on it. */
  | { readonly type: "moved"; readonly server: string }
  /** The first server cannot be gone back to yet; we stay with the one that we are with. */
  | { readonly type: "not-returned"; readonly error: unknown }
  /** Only a person can mend it. */
  | { readonly type: "refused"; readonly error: Error }
  /** A server accepted, or not; what the server says of us is `refused`. */
  | { readonly type: "audit"; readonly event: AuditEvent }
  | { readonly type: "server-error"; readonly authError: number | undefined }
  | { readonly type: "source-failed"; readonly source: string; readonly error: unknown }
  | { readonly type: "source-recovered"; readonly source: string }
  /** The disk cannot be written: readings wait in memory only until it can. */
  | { readonly type: "store-failed"; readonly error: unknown }
  /** The disk takes readings again, and has all that wait. */
  | { readonly type: "store-recovered"; readonly readings: number }
  /** The wall clock was set back, or never set: until it is right, readings are dated by the clock that counts since boot. */
  | { readonly type: "clock"; readonly isTrusted: boolean }
  /** The queue was full: these many readings are lost. */
  | { readonly type: "dropped"; readonly readings: number }
  /** The server can never take this reading. */
  | { readonly type: "discarded"; readonly name: string };
