import { formatIpPrefix, ipPrefix, parseIpAddress } from "#ip/index.js";
/**
 * Back-off after failed authentications, for a subscriber at an address and for the address. Each has a bucket of failures
 * that refills with time; while it is empty no answer is looked at. No clock and no I/O.
 *
 * Invariants:
 * 1. Failures at one address never delay anybody at another: nobody is locked out from elsewhere.
 * 2. A subscriber that was authentic at an address lately is delayed there by failures in its own name only, not by those of
 *    its neighbours behind the same address.
 * 3. Only failures of a client that proved its address count; so nobody can fail in another's name by a forged source.
 *    That is the caller's part.
 * 4. At most `maxEntries` buckets and as many remembered successes are kept; the longest unused are forgotten.
 */
export class FailureLimits {
  readonly #options: FailureLimitOptions;
  readonly #buckets = new Map<string, Bucket>();
  /** Subscriber and address, in order of use. */
  readonly #known = new Map<string, number>();

  constructor(options: Partial<FailureLimitOptions> = {}) {
    this.#options = { ...DEFAULT_FAILURE_LIMITS, ...options };
  }

  /** Buckets kept now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Milliseconds until an answer in this name from this address is looked at again; 0: now. */
  waitMs(username: string, address: string, now: number): number {
    const { burstPerSubscriber, refillPerSubscriberMs, burstPerAddress, refillPerAddressMs } = this.#options;
    const prefix = addressPrefix(address);
    const own = this.#wait(keyOf(username, prefix), burstPerSubscriber, refillPerSubscriberMs, now);
    if (this.#isKnown(username, prefix, now)) return own;
    return Math.max(own, this.#wait(prefix, burstPerAddress, refillPerAddressMs, now));
  }

  failed(username: string, address: string, now: number): void {
    const { burstPerSubscriber, refillPerSubscriberMs, burstPerAddress, refillPerAddressMs } = this.#options;
    const prefix = addressPrefix(address);
    this.#take(keyOf(username, prefix), burstPerSubscriber, refillPerSubscriberMs, now);
    this.#take(prefix, burstPerAddress, refillPerAddressMs, now);
  }

  succeeded(username: string, address: string, now: number): void {
    const key = keyOf(username, addressPrefix(address));
    this.#buckets.delete(key);
    this.#known.delete(key);
    this.#known.set(key, now);
    this.#trim(this.#known);
  }

  #isKnown(username: string, prefix: string, now: number): boolean {
    const at = this.#known.get(keyOf(username, prefix));
    return at !== undefined && now - at <= this.#options.rememberSuccessMs;
  }

  #wait(key: string, burst: number, refillMs: number, now: number): number {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return 0;
    const level = levelOf(bucket, burst, refillMs, now);
    return level >= 1 ? 0 : Math.ceil((1 - level) * refillMs);
  }

  #take(key: string, burst: number, refillMs: number, now: number): void {
    const bucket = this.#buckets.get(key);
    const level = bucket === undefined ? burst : levelOf(bucket, burst, refillMs, now);
    this.#buckets.delete(key);
    this.#buckets.set(key, { level: Math.max(0, level - 1), at: now });
    this.#trim(this.#buckets);
  }

  #trim(entries: Map<string, unknown>): void {
    for (const oldest of entries.keys()) {
      if (entries.size <= this.#options.maxEntries) return;
      entries.delete(oldest);
    }
  }
}

export interface FailureLimitOptions {
  /** Failures in one name from one address before it is made to wait. Default 5; 1 punishes every slip. */
  readonly burstPerSubscriber: number;
  /** Until one more is allowed, ms. Default 30,000: 2,880 guesses a day. */
  readonly refillPerSubscriberMs: number;
  /** Failures of all names from one address (IPv6: one /64). Default 50; too few, and one wrong device delays its neighbours. */
  readonly burstPerAddress: number;
  /** Default 5,000 ms. */
  readonly refillPerAddressMs: number;
  /** How long a success is remembered, ms. Default 7 days. */
  readonly rememberSuccessMs: number;
  /** Default 20,000, of about 200 bytes each. */
  readonly maxEntries: number;
}

export const DEFAULT_FAILURE_LIMITS: FailureLimitOptions = {
  burstPerSubscriber: 5,
  refillPerSubscriberMs: 30_000,
  burstPerAddress: 50,
  refillPerAddressMs: 5000,
  rememberSuccessMs: 7 * 86_400_000,
  maxEntries: 20_000,
};

/** Within it a step of a time service delays somebody by no more. */
const MAX_STEP_BACK_MS = 60_000;

interface Bucket {
  /** Failures still allowed at `at`. */
  readonly level: number;
  readonly at: number;
}

/** A wall clock that was set back, by how much nobody knows: then what was failed before it is forgotten. */
function levelOf({ level, at }: Bucket, burst: number, refillMs: number, now: number): number {
  return now < at - MAX_STEP_BACK_MS ? burst : Math.min(burst, level + Math.max(0, now - at) / refillMs);
}

/** An address as it is counted: whoever has one of IPv6 mostly has its whole /64. Canonical addresses in. */
export function addressPrefix(address: string): string {
  const bytes = address.includes(":") ? parseIpAddress(address) : undefined;
  const prefix = bytes && ipPrefix(bytes, 64);
  return prefix === undefined ? address : formatIpPrefix(prefix);
}

/** A prefix holds no blank, so a name that holds one cannot be taken for another key. */
function keyOf(username: string, prefix: string): string {
  return `${prefix} ${username}`;
}
