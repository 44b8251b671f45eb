import { suiteByName, usesCertificate, usesPsk } from "../crypto/suites.js";
import type { ResolvedServerOptions } from "../options.js";
import { decodeSession, encodeSession, type ResumableSession } from "../resumable-session.js";
import { TicketKeys } from "../ticket-keys.js";
import type { ClientHello } from "../wire/client-hello.js";
import { EXTENSION_TYPES } from "../wire/extensions.js";
import type { NewSessionTicket } from "../wire/new-session-ticket.js";
import type { OfferedSession } from "./handshake-driver.js";
import type { ClientTerms } from "./server-terms.js";

/** How a server makes sessions that can be resumed, and finds them again. */
export class ServerSessions {
  readonly #options: ResolvedServerOptions;

  constructor(options: ResolvedServerOptions) {
    this.#options = options;
  }

  /** By ticket where the client takes one, else by identifier; only with the extended master secret. */
  plan(
    hello: ClientHello,
    extendedMasterSecret: boolean,
  ): { readonly issuesTicket: boolean; readonly sessionId: Uint8Array } {
    const { sessionTickets, sessionCache, random } = this.#options;
    const issuesTicket = sessionTickets && extendedMasterSecret && hello.extensions.has(EXTENSION_TYPES.session_ticket);
    const isCached = sessionCache && extendedMasterSecret && !issuesTicket;
    return { issuesTicket, sessionId: isCached ? random(SESSION_ID_BYTES) : NO_BYTES };
  }

  openTicket(ticket: Uint8Array, now: number): ResumableSession | undefined {
    const state = this.#ticketKeys().open(ticket, now);
    return state && decodeSession(state);
  }

  /** Empty when it would be too long. */
  sealTicket(facts: SessionFacts, now: number): NewSessionTicket {
    const state = this.#encode(facts, now);
    const ticket = state.length > MAX_TICKET_STATE_BYTES ? NO_BYTES : this.#ticketKeys().seal(state, now);
    return { lifetimeHintSeconds: this.#options.sessionLifetimeSeconds, ticket };
  }

  /**
   * Whether a client that resumes by this ticket is given a new one (RFC 5077 §3.3): past half the ticket's life, or when
   * the key that sealed it is on its way out. Not when the session itself is about to end.
   */
  isToBeRenewed({ issuedAt, establishedAt }: ResumableSession, hello: ClientHello, now: number): boolean {
    const { sessionTickets, sharedKeys, sessionLifetimeSeconds, maxSessionAgeSeconds } = this.#options;
    const ticket = hello.extensions.get(EXTENSION_TYPES.session_ticket);
    if (!sessionTickets || ticket === undefined || ticket.length === 0) return false;
    const unixSeconds = sharedKeys.unixTimeMs(now) / 1000;
    if (issuedAt + sessionLifetimeSeconds >= establishedAt + maxSessionAgeSeconds) return false;
    const periodOf = (seconds: number): number => Math.floor(seconds / sessionLifetimeSeconds);
    return unixSeconds - issuedAt > sessionLifetimeSeconds / 2 || periodOf(issuedAt) !== periodOf(unixSeconds);
  }

  cached(sessionId: Uint8Array, facts: SessionFacts, now: number): OfferedSession {
    const lifetimeSeconds = this.#options.sessionLifetimeSeconds;
    return { sessionId, state: this.#encode(facts, now), lifetimeSeconds };
  }

  #encode(facts: SessionFacts, now: number): Uint8Array {
    const issuedAt = Math.floor(this.#options.sharedKeys.unixTimeMs(now) / 1000);
    const establishedAt = facts.establishedAt ?? issuedAt;
    return encodeSession({ ...facts, establishedAt, issuedAt, sessionId: NO_BYTES, ticket: NO_BYTES });
  }

  #ticketKeys(): TicketKeys {
    const { sharedKeys, sessionLifetimeSeconds, random } = this.#options;
    return new TicketKeys(sharedKeys, sessionLifetimeSeconds * 1000, random);
  }
}

/** `establishedAt`: absent of a session that is new. */
export type SessionFacts = Pick<ResumableSession, "masterSecret" | "serverName" | "peer" | "pskTag"> &
  Partial<Pick<ResumableSession, "establishedAt">>;

/** Whether what the client offers and the options of now allow what the session was made with. */
export function isResumable(
  session: ResumableSession,
  hello: ClientHello,
  terms: ClientTerms,
  options: ResolvedServerOptions,
  now: number,
): boolean {
  const { suite: name, certificates, rawPublicKey } = session.peer;
  const suite = suiteByName(name);
  if (!options.cipherSuites.includes(name) || !hello.cipherSuites.includes(suite.id)) return false;
  if (session.serverName !== terms.serverName) return false;
  const unixSeconds = options.sharedKeys.unixTimeMs(now) / 1000;
  if (Math.abs(unixSeconds - session.issuedAt) > options.sessionLifetimeSeconds) return false;
  if (Math.abs(unixSeconds - session.establishedAt) > options.maxSessionAgeSeconds) return false;
  if (usesPsk(suite)) return options.pskEnabled && session.peer.pskIdentity !== undefined;
  if (usesCertificate(suite) && options.certificate === undefined && options.rawPublicKey === undefined) return false;
  const isAuthenticated = certificates !== undefined || rawPublicKey !== undefined;
  return !usesCertificate(suite) || options.clientCertificate !== "require" || isAuthenticated;
}

const SESSION_ID_BYTES = 32;
const MAX_TICKET_STATE_BYTES = 4096;
const NO_BYTES = new Uint8Array(0);
