import { formatIpPrefix, type IpPrefix, parseIpAddress } from "#ip/index.js";
import type { AccountingRecord, NasIdentity } from "./accounting-record.js";
import { AddressOwners } from "./address-owners.js";

/**
 * The sessions that RADIUS accounting tells of, and whose address is whose.
 *
 * | state | on | to |
 * |---|---|---|
 * | unknown | Start, Interim-Update | open |
 * | unknown | Stop | ended, so that its late Start does not open it |
 * | open | Start, Interim-Update, newer | open, with the addresses and the identity that it tells |
 * | open | Stop, Accounting-On or -Off of its NAS, not older than its Start | ended |
 * | open | nothing for `sessionTimeoutMs` | unknown |
 * | ended | Start, newer (after Accounting-On or -Off: Interim-Update too) | open |
 * | ended | `maxDelayMs` | unknown |
 *
 * An event's time is that of its arrival less Acct-Delay-Time, so that late and reordered records change nothing, nor
 * does one that is told twice. What cannot be placed in time ends a session rather than opens it.
 */
export class AccountingSessions<Identity> {
  readonly #options: SessionOptions;
  readonly #owners = new AddressOwners<Session<Identity>>();
  /** By client and Acct-Session-Id; several NAS behind one client may use the same. */
  readonly #sessions = new Map<string, Session<Identity>[]>();
  /** In order of arrival of their latest records. */
  readonly #open = new Set<Session<Identity>>();
  readonly #ended = new Set<Session<Identity>>();
  readonly #restarts: { readonly client: string; readonly nas: NasIdentity; readonly at: number }[] = [];
  /** Records older than this may be of sessions that ended and were forgotten. */
  #horizon = -Infinity;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  get openSessions(): number {
    return this.#open.size;
  }

  /** Who has the address (a literal) now. */
  identityOf(address: string, now: number): Identity | undefined {
    const bytes = parseIpAddress(address);
    const claim = bytes === undefined ? undefined : this.#owners.find(bytes);
    if (claim === undefined || (claim.contender !== undefined && !this.#isExpired(claim.contender, now)))
      return undefined;
    return this.#isExpired(claim.owner, now) ? undefined : claim.owner.identity;
  }

  /** Takes one record; `identity` is what its attribute came to. */
  apply(client: string, record: AccountingRecord, identity: Identity | undefined, now: number): RecordOutcome {
    this.sweep(now);
    switch (record.status) {
      case "start":
      case "interim":
        return this.#update(client, record, identity, now);
      case "stop":
        return this.#stop(client, record, now);
      case "on":
      case "off":
        return this.#restart(client, record, now);
      case "other":
        return { type: "ignored", reason: "status" };
    }
  }

  /** Forgets sessions that were not heard of for too long. */
  sweep(now: number): void {
    for (const session of this.#open) {
      if (!this.#isExpired(session, now)) break;
      this.#forget(session);
    }
    for (const session of this.#ended) {
      if (session.updatedAt + this.#options.maxDelayMs > now) break;
      this.#forget(session);
    }
  }

  #update(client: string, record: AccountingRecord, identity: Identity | undefined, now: number): RecordOutcome {
    // Acct-Delay-Time is in whole seconds: the event may be almost one older.
    const at = now - record.delaySeconds * 1000 - (record.delaySeconds > 0 ? 1000 : 0);
    const horizon = Math.max(this.#horizon, now - this.#options.maxDelayMs);
    const known = this.#find(client, record);
    const restart = this.#restarts.findLast((one) => one.client === client && isSameNas(one.nas, record.nas));
    if (at < horizon || (restart !== undefined && at <= restart.at)) return { type: "ignored", reason: "late" };
    if (known !== undefined) {
      if (known.endedBy === "stop" && (record.status !== "start" || at <= known.updatedAt))
        return { type: "ignored", reason: "ended" };
      if (at < known.updatedAt) return { type: "ignored", reason: "late" };
    }
    const isNew = known?.endedBy !== undefined || known === undefined;
    const session = known ?? this.#create(client, record);
    if (session === undefined) return { type: "full" };
    if (isNew) {
      if (this.#open.size >= this.#options.maxSessions) {
        if (known === undefined) this.#forget(session);
        return { type: "full" };
      }
      session.startedAt = at;
      session.endedBy = undefined;
      session.identity = undefined;
    }
    session.updatedAt = at;
    session.identity = identity ?? session.identity;
    this.#ended.delete(session);
    this.#open.delete(session);
    this.#open.add(session);
    const isContested = this.#claim(session, record, at, isNew || record.status === "start", now);
    return { type: "open", isContested };
  }

  /** Addresses of a family that the record tells of take the place of those that were known of it. */
  #claim(session: Session<Identity>, record: AccountingRecord, at: number, isFirst: boolean, now: number): boolean {
    const told = record.prefixes.slice(0, this.#options.maxAddressesPerSession);
    const families = new Set(told.map(({ bytes }) => bytes.length));
    const texts = new Set(told.map(formatIpPrefix));
    for (const prefix of session.prefixes)
      if (families.has(prefix.bytes.length) && !texts.has(formatIpPrefix(prefix))) this.#release(session, prefix);
    session.prefixes = [...session.prefixes.filter(({ bytes }) => !families.has(bytes.length)), ...told];
    let isContested = false;
    for (const prefix of told) {
      const claim = this.#owners.of(prefix);
      if (claim?.owner === session && !isFirst) {
        this.#owners.set(prefix, { ...claim, at });
        continue;
      }
      const isHeld = claim !== undefined && claim.owner !== session && !this.#isExpired(claim.owner, now);
      if (isHeld && claim.at > at) continue;
      // A session that goes on with an address which another one began with since: one of them is wrong.
      if (isHeld && !isFirst) this.#owners.set(prefix, { ...claim, contender: session });
      else this.#owners.set(prefix, { owner: session, at });
      isContested ||= isHeld && !isFirst;
    }
    return isContested;
  }

  #stop(client: string, record: AccountingRecord, now: number): RecordOutcome {
    const at = now - record.delaySeconds * 1000;
    const session = this.#find(client, record) ?? this.#create(client, record);
    if (session === undefined) return { type: "full" };
    if (session.endedBy === undefined && at < session.startedAt) return { type: "ignored", reason: "late" };
    const wasOpen = this.#open.has(session);
    this.#end(session, "stop", Math.max(at, session.updatedAt));
    return wasOpen ? { type: "ended", sessions: 1 } : { type: "ignored", reason: "ended" };
  }

  #restart(client: string, record: AccountingRecord, now: number): RecordOutcome {
    const at = now - record.delaySeconds * 1000;
    let sessions = 0;
    for (const session of this.#open) {
      if (session.client !== client || !isSameNas(session.nas, record.nas) || session.startedAt > at) continue;
      this.#end(session, "restart", at);
      sessions++;
    }
    this.#restarts.push({ client, nas: record.nas, at });
    if (this.#restarts.length > MAX_RESTARTS) this.#raiseHorizon(this.#restarts.shift()?.at);
    return { type: "ended", sessions };
  }

  #find(client: string, { sessionId, nas }: AccountingRecord): Session<Identity> | undefined {
    return this.#sessions.get(`${client} ${sessionId}`)?.find((session) => isSameNas(session.nas, nas));
  }

  /** Undefined where too many NAS behind one client use the same Acct-Session-Id. */
  #create(client: string, { sessionId, nas }: AccountingRecord): Session<Identity> | undefined {
    const key = `${client} ${sessionId}`;
    const namesakes = this.#sessions.get(key) ?? [];
    if (namesakes.length >= MAX_NAMESAKES) return undefined;
    const session: Session<Identity> = {
      key,
      client,
      nas,
      startedAt: -Infinity,
      updatedAt: -Infinity,
      endedBy: undefined,
      identity: undefined,
      prefixes: [],
    };
    this.#sessions.set(key, [...namesakes, session]);
    return session;
  }

  #end(session: Session<Identity>, cause: "stop" | "restart", at: number): void {
    for (const prefix of session.prefixes) this.#release(session, prefix);
    session.prefixes = [];
    session.identity = undefined;
    session.endedBy = cause;
    session.updatedAt = at;
    this.#open.delete(session);
    this.#ended.delete(session);
    this.#ended.add(session);
    if (this.#ended.size <= this.#options.maxEndedSessions) return;
    for (const oldest of this.#ended) {
      this.#raiseHorizon(oldest.updatedAt);
      this.#forget(oldest);
      break;
    }
  }

  #forget(session: Session<Identity>): void {
    for (const prefix of session.prefixes) this.#release(session, prefix);
    this.#open.delete(session);
    this.#ended.delete(session);
    const others = this.#sessions.get(session.key)?.filter((other) => other !== session) ?? [];
    if (others.length === 0) this.#sessions.delete(session.key);
    else this.#sessions.set(session.key, others);
  }

  #release(session: Session<Identity>, prefix: IpPrefix): void {
    const claim = this.#owners.of(prefix);
    if (claim?.owner === session) this.#owners.delete(prefix);
    else if (claim?.contender === session) this.#owners.set(prefix, { owner: claim.owner, at: claim.at });
  }

  #isExpired(session: Session<Identity>, now: number): boolean {
    return session.updatedAt + this.#options.sessionTimeoutMs <= now;
  }

  #raiseHorizon(at = -Infinity): void {
    this.#horizon = Math.max(this.#horizon, at);
  }
}

export interface SessionOptions {
  /** Default 1 h: a session that is not heard of for this long is over. Set it above the NAS's interval of Interim-Updates. */
  readonly sessionTimeoutMs: number;
  /** Default 10 min: the longest Acct-Delay-Time that is taken; so long an ended session is remembered. */
  readonly maxDelayMs: number;
  /** Default 100,000 open sessions, some 500 bytes each; a further Start is not answered. */
  readonly maxSessions: number;
  /** Default 100,000 sessions remembered after their end. Beyond it the oldest goes, with every record as late as its end. */
  readonly maxEndedSessions: number;
  /** Default 16 addresses and prefixes of one session; further ones are left out. */
  readonly maxAddressesPerSession: number;
}

export type RecordOutcome =
  | { readonly type: "open"; readonly isContested: boolean }
  | { readonly type: "ended"; readonly sessions: number }
  | { readonly type: "ignored"; readonly reason: "late" | "ended" | "status" }
  /** No room: not recorded, and so not to be answered (RFC 2866 §4.1). */
  | { readonly type: "full" };

interface Session<Identity> {
  readonly key: string;
  readonly client: string;
  readonly nas: NasIdentity;
  /** Of the first event of this life. */
  startedAt: number;
  /** Of the newest event; once ended, of the end. */
  updatedAt: number;
  endedBy: "stop" | "restart" | undefined;
  identity: Identity | undefined;
  prefixes: readonly IpPrefix[];
}

/** A NAS need not put every name of its own into each record: those that both records have decide. */
function isSameNas(a: NasIdentity, b: NasIdentity): boolean {
  return NAS_NAMES.every((name) => a[name] === undefined || b[name] === undefined || a[name] === b[name]);
}

const NAS_NAMES = ["identifier", "address", "ipv6Address"] as const;
const MAX_NAMESAKES = 16;
const MAX_RESTARTS = 256;
