import { createStoredCredential, type DigestHash, type StoredCredential } from "#digest/index.js";
import { parseSubscriberIdentity, type SubscriberIdentity } from "./subscriber-identity.js";

/**
 * Digest credentials of the Generic Bootstrapping Architecture (3GPP TS 33.220, TS 33.222): the username is a B-TID, the
 * password base64 of Ks_NAF, the realm `3GPP-bootstrapping@` and the NAF's host. Ks_NAF is asked of a resolver, which
 * speaks to the BSF (docs/external-authentication.md has its protocol); it is kept as HA1 values only.
 *
 * A B-TID that the resolver does not know, and a resolver that does not answer, let nobody in. All that is kept is bounded.
 */
export class GbaCredentials {
  readonly realm: string;
  readonly #options: ResolvedOptions;
  readonly #fetch: typeof fetch;
  /** In order of use. */
  readonly #known = new Map<string, GbaCredential>();
  /** Until when each is not asked for again, the oldest first. */
  readonly #unknown = new Map<string, number>();
  readonly #lookups = new Map<string, Promise<GbaLookup>>();
  #waiting = 0;

  constructor(options: GbaOptions, fetcher: typeof fetch = fetch) {
    this.realm = gbaRealm(options.naf);
    this.#options = { ...DEFAULT_GBA_LIMITS, ...options };
    this.#fetch = fetcher;
  }

  /** What is kept of a B-TID whose lifetime has not passed. */
  find(btid: string, now: number): GbaCredential | undefined {
    const known = this.#known.get(btid);
    if (known === undefined) return undefined;
    this.#known.delete(btid);
    if (known.expiresAt <= now) return undefined;
    this.#known.set(btid, known);
    return known;
  }

  /**
   * Asks the resolver; several at once for one B-TID ask once. Undefined where nothing is to be asked: the answer is kept
   * already, or the name is no B-TID. `busy` is for whoever comes while too many are asked for.
   *
   * @param now - ms since 1970.
   */
  lookUp(btid: string, now: number): Promise<GbaLookup> | GbaLookup | undefined {
    if (!B_TID.test(btid) || this.find(btid, now) !== undefined) return undefined;
    const until = this.#unknown.get(btid);
    if (until !== undefined && until > now) return undefined;
    if (this.#waiting >= this.#options.maxWaiting) return "busy";
    let lookup = this.#lookups.get(btid);
    if (lookup === undefined) {
      if (this.#lookups.size >= this.#options.maxLookups) return "busy";
      lookup = this.#ask(btid, now).finally(() => this.#lookups.delete(btid));
      this.#lookups.set(btid, lookup);
    }
    this.#waiting++;
    return lookup.finally(() => this.#waiting--);
  }

  async #ask(btid: string, now: number): Promise<GbaLookup> {
    const { resolver, token, naf, timeoutMs } = this.#options;
    try {
      const response = await this.#fetch(resolver, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          accept: "application/json",
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify({ btid, naf }),
        redirect: "error",
        signal: AbortSignal.timeout(timeoutMs),
      });
      if (response.status === 404) {
        await response.body?.cancel();
        this.#keepUnknown(btid, now);
        return "unknown";
      }
      if (response.status !== 200) {
        await response.body?.cancel();
        return "unavailable";
      }
      return this.#keep(btid, JSON.parse(await textOf(response)), now);
    } catch {
      // Whatever went wrong on the way, there is no credential.
      return "unavailable";
    }
  }

  #keep(btid: string, answer: unknown, now: number): GbaLookup {
    const { maxLifetimeMs, maxCredentials, hashes } = this.#options;
    const read = readAnswer(answer);
    if (read === undefined) return "unavailable";
    const { ksNaf, lifetimeSeconds, subscriber } = read;
    const password = gbaPassword(ksNaf);
    const credential = createStoredCredential({ username: btid, realm: this.realm, password }, hashes);
    const expiresAt = now + Math.min(lifetimeSeconds * 1000, maxLifetimeMs);
    this.#unknown.delete(btid);
    this.#known.set(btid, { credential, subscriber, expiresAt });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= maxCredentials) break;
      this.#known.delete(oldest);
    }
    return "known";
  }

  #keepUnknown(btid: string, now: number): void {
    const { maxUnknown, unknownLifetimeMs } = this.#options;
    this.#unknown.delete(btid);
    this.#unknown.set(btid, now + unknownLifetimeMs);
    for (const [oldest, until] of this.#unknown) {
      if (this.#unknown.size <= maxUnknown && until > now) break;
      this.#unknown.delete(oldest);
    }
  }
}

/** TS 33.222 §5.3: the realm of credentials for this NAF. */
export function gbaRealm(naf: string): string {
  return `3GPP-bootstrapping@${naf}`;
}

/** A bootstrapped credential, and whose it is. */
export interface GbaCredential {
  readonly credential: StoredCredential;
  readonly subscriber: GbaSubscriber;
  /** Ms since 1970. */
  readonly expiresAt: number;
}

/** By the name of a subscriber of ours, or by what it is to the network. */
export type GbaSubscriber = { readonly name: string } | { readonly identity: SubscriberIdentity };

/** `unavailable`: the resolver did not answer as it should. `busy`: too many are being asked for. */
export type GbaLookup = "known" | "unknown" | "unavailable" | "busy";

export interface GbaOptions extends Partial<GbaLimits> {
  /** An https URL; http only on this machine, since keys come back. */
  readonly resolver: string;
  /** Sent as a bearer token. */
  readonly token?: string | undefined;
  /** Our own host name, as clients dial it. */
  readonly naf: string;
  /** Of which HA1 values are kept. */
  readonly hashes: readonly DigestHash[];
}

export interface GbaLimits {
  /** Default 5 s for the resolver to answer. */
  readonly timeoutMs: number;
  /** Default 64 B-TIDs that the resolver is asked for at once. */
  readonly maxLookups: number;
  /** Default 1024 messages that wait for answers of the resolver. */
  readonly maxWaiting: number;
  /** Default 10,000 credentials kept; the one unused longest goes first, and is asked for again. */
  readonly maxCredentials: number;
  /** Default 24 h: the longest that a credential is kept, whatever lifetime the resolver tells. */
  readonly maxLifetimeMs: number;
  /** Default 10,000 unknown B-TIDs remembered. */
  readonly maxUnknown: number;
  /** Default 60 s until an unknown B-TID is asked for again. */
  readonly unknownLifetimeMs: number;
}

export const DEFAULT_GBA_LIMITS: GbaLimits = {
  timeoutMs: 5000,
  maxLookups: 64,
  maxWaiting: 1024,
  maxCredentials: 10_000,
  maxLifetimeMs: 86_400_000,
  maxUnknown: 10_000,
  unknownLifetimeMs: 60_000,
};

type ResolvedOptions = GbaOptions & GbaLimits;

/** Ks_NAF as base64 writes it; undefined for anything else than its 32 bytes (3GPP TS 33.220 annex B). */
export function parseKsNaf(text: string): Uint8Array | undefined {
  return /^[A-Za-z0-9+/]{43}=$/.test(text) ? Uint8Array.from(Buffer.from(text, "base64")) : undefined;
}

/** The password that Ks_NAF is in Digest. */
export function gbaPassword(ksNaf: Uint8Array): string {
  return Buffer.from(ksNaf).toString("base64");
}

function readAnswer(
  answer: unknown,
): { readonly ksNaf: Uint8Array; readonly lifetimeSeconds: number; readonly subscriber: GbaSubscriber } | undefined {
  if (typeof answer !== "object" || answer === null) return undefined;
  const { ksNaf, lifetime, subscriber, identity } = answer as Readonly<Record<string, unknown>>;
  const key = typeof ksNaf === "string" ? parseKsNaf(ksNaf) : undefined;
  if (key === undefined || typeof lifetime !== "number" || !(lifetime > 0)) return undefined;
  if (typeof subscriber === "string" && identity === undefined)
    return { ksNaf: key, lifetimeSeconds: lifetime, subscriber: { name: subscriber } };
  if (typeof identity !== "string" || subscriber !== undefined) return undefined;
  return { ksNaf: key, lifetimeSeconds: lifetime, subscriber: { identity: parseSubscriberIdentity(identity) } };
}

/** The body, as far as an answer may be long. */
async function textOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    const bytes: Uint8Array = part;
    length += bytes.length;
    if (length > MAX_ANSWER_BYTES) throw new RangeError("the resolver's answer is too long");
    parts.push(bytes);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** TS 33.220 §4.4.8: base64 of RAND, "@", and the BSF's host. */
const B_TID = /^[A-Za-z0-9+/=_-]{1,64}@[A-Za-z0-9.-]{1,180}$/;
const MAX_ANSWER_BYTES = 65_536;
