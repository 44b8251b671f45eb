import { type IpPrefix, isInPrefix, formatIpPrefix, parseIpAddress } from "#ip/index.js";
import { accountingResponse, checkRequestAuthenticator } from "./authenticator.js";
import { type AccountingStatus, type IdentityAttribute, readAccountingRecord } from "./accounting-record.js";
import { AccountingSessions, type RecordOutcome, type SessionOptions } from "./accounting-sessions.js";
import { RadiusError } from "./errors.js";
import { decodePacket, RADIUS_CODE, type RadiusPacket } from "./packet.js";
import { RecentAnswers } from "./recent-answers.js";

/**
 * The server of RADIUS accounting (RFC 2866) without its socket: hand it datagrams and the time, send the answers that it
 * gives, and poll its events. What is not authentic gets no answer and no memory.
 */
export class AccountingServer<Identity> {
  readonly counters: AccountingCounters = {
    accepted: 0,
    duplicates: 0,
    "unknown-client": 0,
    malformed: 0,
    "unexpected-code": 0,
    "bad-authenticator": 0,
    full: 0,
  };

  readonly #options: AccountingOptions<Identity>;
  readonly #sessions: AccountingSessions<Identity>;
  readonly #answers: RecentAnswers;
  readonly #clients: readonly RadiusClient[];
  readonly #events: AccountingEvent[] = [];
  /** When each reason of silence may next be told. */
  readonly #quietUntil = new Map<SilenceReason, number>();

  constructor(options: AccountingOptions<Identity>) {
    const limits = { ...DEFAULT_ACCOUNTING_LIMITS, ...options.limits };
    this.#options = options;
    this.#sessions = new AccountingSessions(limits);
    this.#answers = new RecentAnswers(limits);
    // The longest prefix that a source is in names its client.
    this.#clients = options.clients.toSorted((a, b) => b.address.length - a.address.length);
  }

  get openSessions(): number {
    return this.#sessions.openSessions;
  }

  /** Who has an address (a literal) now; undefined when nobody is known to have it. */
  identityOf(address: string, now: number): Identity | undefined {
    return this.#sessions.identityOf(address, now);
  }

  /** The answer to send to where the datagram came from; undefined for none. */
  handleDatagram(datagram: Uint8Array, from: RadiusSource, now: number): Uint8Array | undefined {
    const address = parseIpAddress(from.address);
    const client = address === undefined ? undefined : this.#clients.find((one) => isInPrefix(address, one.address));
    if (client === undefined) return this.#stayQuiet("unknown-client", from, now);
    try {
      const packet = decodePacket(datagram);
      if (packet.code !== RADIUS_CODE.AccountingRequest) return this.#stayQuiet("unexpected-code", from, now);
      checkRequestAuthenticator(packet, client.secret);
      return this.#handleRequest(packet, client, from, now);
    } catch (error) {
      if (!(error instanceof RadiusError)) throw error;
      return this.#stayQuiet(SILENCE_OF[error.code], from, now);
    }
  }

  /** The next event; undefined when there is none. */
  poll(): AccountingEvent | undefined {
    return this.#events.shift();
  }

  /** Frees what has expired. Call it now and then; what has expired is not given out in any case. */
  sweep(now: number): void {
    this.#sessions.sweep(now);
    this.#answers.sweep(now);
  }

  #handleRequest(packet: RadiusPacket, client: RadiusClient, from: RadiusSource, now: number): Uint8Array | undefined {
    const earlier = this.#answers.find(packet, from, now);
    if (earlier !== undefined) {
      this.counters.duplicates++;
      return earlier;
    }
    const { identity: attribute, interfaceId = "exact", minPrefixLength = 48, identify } = this.#options;
    const record = readAccountingRecord(packet, { identity: attribute, interfaceId, minPrefixLength });
    const identity = record.identity === undefined ? undefined : identify(record.identity);
    const clientName = formatIpPrefix(client.address);
    const outcome = this.#sessions.apply(clientName, record, identity, now);
    if (outcome.type === "full") return this.#stayQuiet("full", from, now);
    this.counters.accepted++;
    this.#tell({
      type: "accounting",
      client: from.address,
      status: record.status,
      sessionId: record.sessionId,
      identity: record.identity,
      isIdentityUsable: identity !== undefined,
      addresses: record.prefixes.map(formatIpPrefix),
      outcome,
    });
    const answer = accountingResponse(packet, client.secret);
    this.#answers.keep(packet, from, answer, now);
    return answer;
  }

  #stayQuiet(reason: SilenceReason, from: RadiusSource, now: number): undefined {
    this.counters[reason]++;
    if ((this.#quietUntil.get(reason) ?? -Infinity) > now) return;
    this.#quietUntil.set(reason, now + QUIET_MS);
    this.#tell({ type: "silent", reason, source: from.address, count: this.counters[reason] });
  }

  #tell(event: AccountingEvent): void {
    if (this.#events.length < MAX_EVENTS) this.#events.push(event);
  }
}

export interface AccountingOptions<Identity> {
  /** Who may send accounting; from any other source nothing is taken. */
  readonly clients: readonly RadiusClient[];
  /** The attribute that identifies a session's user. */
  readonly identity: IdentityAttribute;
  /** What the attribute's value comes to; undefined where it has not the form that is expected: then nobody is known. */
  readonly identify: (value: string) => Identity | undefined;
  /**
   * Default `exact`: a Framed-IPv6-Prefix with Framed-Interface-Id is that one address. `prefix`: the user has the whole
   * prefix; wrong where several users share one.
   */
  readonly interfaceId?: "exact" | "prefix";
  /** Default 48 bits: a shorter IPv6 prefix is no user's, and left out. */
  readonly minPrefixLength?: number;
  readonly limits?: Partial<AccountingLimits>;
}

export interface RadiusClient {
  /** Sources of its packets. */
  readonly address: IpPrefix;
  readonly secret: Uint8Array;
}

export interface AccountingLimits extends SessionOptions {
  /** Default 30 s: how long an answer is kept for repeats of its request. */
  readonly answerLifetimeMs: number;
  /** Default 4096 answers; the oldest goes first. A repeat whose answer is gone is taken again, which changes nothing. */
  readonly maxAnswers: number;
}

export const DEFAULT_ACCOUNTING_LIMITS: AccountingLimits = {
  sessionTimeoutMs: 3_600_000,
  maxDelayMs: 600_000,
  maxSessions: 100_000,
  maxEndedSessions: 100_000,
  maxAddressesPerSession: 16,
  answerLifetimeMs: 30_000,
  maxAnswers: 4096,
};

export interface RadiusSource {
  readonly address: string;
  readonly port: number;
}

/** Why a packet got no answer. */
export type SilenceReason = "unknown-client" | "malformed" | "unexpected-code" | "bad-authenticator" | "full";
export type AccountingCounters = Record<SilenceReason | "accepted" | "duplicates", number>;

export type AccountingEvent =
  | {
      readonly type: "accounting";
      /** The source's address. */
      readonly client: string;
      readonly status: AccountingStatus;
      readonly sessionId: string;
      readonly identity: string | undefined;
      readonly isIdentityUsable: boolean;
      readonly addresses: readonly string[];
      readonly outcome: Exclude<RecordOutcome, { type: "full" }>;
    }
  /** At most one a second for each reason; `count` is of all so far. */
  | { readonly type: "silent"; readonly reason: SilenceReason; readonly source: string; readonly count: number };

const SILENCE_OF = {
  RADIUS_MALFORMED: "malformed",
  RADIUS_BAD_AUTHENTICATOR: "bad-authenticator",
} as const;
const QUIET_MS = 1000;
/** They are polled after each datagram, which makes one. */
const MAX_EVENTS = 64;
