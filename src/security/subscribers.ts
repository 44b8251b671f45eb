import { computeUserhash, conceal, type DigestHash, type StoredCredential } from "#digest/index.js";
import type { InterfaceName } from "#dpe/index.js";
import { formatSubscriberIdentity, type SubscriberIdentity } from "./subscriber-identity.js";

/**
 * Who may use the service, found by each kind of credential. Where two of them have the same one, the later stands for it.
 */
export class Subscribers {
  readonly #byName = new Map<string, Subscriber>();
  readonly #byPskIdentity = new Map<string, Subscriber>();
  readonly #byCertificateName = new Map<string, Subscriber>();
  readonly #byKeyFingerprint = new Map<string, Subscriber>();
  readonly #byIdentity = new Map<string, Subscriber>();
  /** By hash of the username, for each hash and realm that was asked for. */
  readonly #byUserhash = new Map<string, UserhashIndex>();
  /** Of all that have a password; undefined until it is asked for. */
  #passwords: StoredCredential[] | undefined;
  /** Whether two have had the same credential. */
  #hasDoubles = false;

  constructor(subscribers: readonly Subscriber[]) {
    this.replace(subscribers);
  }

  /** All of them, in no particular order. */
  get all(): Iterable<Subscriber> {
    return this.#byName.values();
  }

  /** Takes these in place of those before; whoever keeps one of those must be told. Their secrets are not shown in logs any more. */
  replace(subscribers: readonly Subscriber[]): void {
    for (const { index } of this.#indexes()) index.clear();
    this.#byName.clear();
    this.#byUserhash.clear();
    this.#passwords = undefined;
    this.#hasDoubles = false;
    for (const subscriber of subscribers) this.#add(subscriber);
  }

  /**
   * Takes this one in place of the one of that name, or none where it is undefined. Returns false, changing nothing, where
   * two share a credential, so that it takes all of them to tell whose it is then: see {@link replace}.
   */
  change(name: string, subscriber: Subscriber | undefined): boolean {
    const before = this.#byName.get(name);
    const isTaken = ({ index, keysOf }: CredentialIndex): boolean =>
      subscriber !== undefined && keysOf(subscriber).some((key) => ![undefined, before].includes(index.get(key)));
    if (this.#hasDoubles || [...this.#indexes()].some(isTaken)) return false;
    if (before !== undefined) {
      for (const { index, keysOf } of this.#indexes()) for (const key of keysOf(before)) index.delete(key);
      for (const { hash, realm, index } of this.#byUserhash.values()) index.delete(computeUserhash(hash, name, realm));
      this.#byName.delete(name);
      this.#passwords = undefined;
    }
    if (subscriber !== undefined) this.#add(subscriber);
    return true;
  }

  #add(subscriber: Subscriber): void {
    const { name, psk, digest } = subscriber;
    if (psk !== undefined) conceal(psk, "key");
    if (digest !== undefined) {
      conceal(digest, "ha1");
      this.#passwords?.push(digest);
    }
    this.#hasDoubles ||= this.#byName.has(name);
    this.#byName.set(name, subscriber);
    for (const { index, keysOf } of this.#indexes()) {
      for (const key of keysOf(subscriber)) {
        this.#hasDoubles ||= ![undefined, subscriber].includes(index.get(key));
        index.set(key, subscriber);
      }
    }
    for (const { hash, realm, index } of this.#byUserhash.values())
      if (digest?.realm === realm) index.set(computeUserhash(hash, name, realm), subscriber);
  }

  #indexes(): readonly CredentialIndex[] {
    return [
      { index: this.#byPskIdentity, keysOf: ({ psk }) => (psk === undefined ? [] : [hex(psk.identity)]) },
      { index: this.#byCertificateName, keysOf: ({ certificateNames = [] }) => certificateNames },
      { index: this.#byKeyFingerprint, keysOf: ({ keyFingerprints = [] }) => keyFingerprints },
      { index: this.#byIdentity, keysOf: ({ identities = [] }) => identities.map(formatSubscriberIdentity) },
    ];
  }

  named(name: string): Subscriber | undefined {
    return this.#byName.get(name);
  }

  /** Whether any subscriber has a PSK. */
  get hasPsk(): boolean {
    return this.#byPskIdentity.size > 0;
  }

  ofPskIdentity(identity: Uint8Array): Subscriber | undefined {
    return this.#byPskIdentity.get(hex(identity));
  }

  /** By the first of a verified certificate's names that a subscriber has. */
  ofCertificateNames(names: readonly string[]): Subscriber | undefined {
    for (const name of names) {
      const subscriber = this.#byCertificateName.get(name);
      if (subscriber !== undefined) return subscriber;
    }
    return undefined;
  }

  /** By the SHA-256 of a SubjectPublicKeyInfo that the handshake proved, lowercase hex. */
  ofKeyFingerprint(fingerprint: string): Subscriber | undefined {
    return this.#byKeyFingerprint.get(fingerprint);
  }

  /** By an identity, in canonical form, that a function outside of DPE vouches for. */
  ofIdentity(identity: SubscriberIdentity): Subscriber | undefined {
    return this.#byIdentity.get(formatSubscriberIdentity(identity));
  }

  /** One of those with a password, by any number: what an unknown user is compared with. Undefined where nobody has one. */
  readonly decoy = (number: number): StoredCredential | undefined => {
    this.#passwords ??= [...this.#byName.values()].flatMap(({ digest }) => digest ?? []);
    return this.#passwords[number % this.#passwords.length];
  };

  /** By the username of an Authorization, or its hash (RFC 7616 §3.4.4). */
  ofUsername(username: string | Uint8Array, realm: string, hash: DigestHash): Subscriber | undefined {
    if (typeof username === "string") return this.#byName.get(username.normalize("NFC"));
    return this.#userhashes(hash, realm)?.get(hex(username));
  }

  /** Only realms that somebody has are indexed, so that a peer cannot make this grow. */
  #userhashes(hash: DigestHash, realm: string): ReadonlyMap<string, Subscriber> | undefined {
    const key = `${hash} ${realm}`;
    const known = this.#byUserhash.get(key);
    if (known !== undefined) return known.index;
    const ofRealm = [...this.#byName.values()].filter(({ digest }) => digest?.realm === realm);
    if (ofRealm.length === 0) return undefined;
    const made = new Map(ofRealm.map((subscriber) => [computeUserhash(hash, subscriber.name, realm), subscriber]));
    this.#byUserhash.set(key, { hash, realm, index: made });
    return made;
  }
}

interface CredentialIndex {
  readonly index: Map<string, Subscriber>;
  readonly keysOf: (subscriber: Subscriber) => readonly string[];
}

interface UserhashIndex {
  readonly hash: DigestHash;
  readonly realm: string;
  readonly index: Map<string, Subscriber>;
}

export interface Subscriber {
  readonly name: string;
  readonly digest?: StoredCredential;
  readonly psk?: { readonly identity: Uint8Array; readonly key: Uint8Array };
  /** Names in client certificates that stand for this subscriber. */
  readonly certificateNames?: readonly string[];
  /** SHA-256 of the SubjectPublicKeyInfo of raw public keys, or of certificates, that stand for it; lowercase hex. */
  readonly keyFingerprints?: readonly string[];
  /** What it is to functions outside of DPE. */
  readonly identities?: readonly SubscriberIdentity[];
  /** Patterns of endpoint names, `*` for any run of characters. Default: any. */
  readonly endpoints?: readonly string[];
  /** Beginnings of property names that it may report and be asked for, whole segments. Default: any. */
  readonly properties?: readonly string[];
  /** Default: both. */
  readonly interfaces?: readonly InterfaceName[];
}

export function mayUse(subscriber: Subscriber, interfaceName: InterfaceName): boolean {
  return subscriber.interfaces?.includes(interfaceName) ?? true;
}

export function mayRegister(subscriber: Subscriber, endpoint: string): boolean {
  return subscriber.endpoints?.some((pattern) => matches(pattern, endpoint)) ?? true;
}

/** Whether a subscriber may report a property, or be asked for it: one of its prefixes, or below it. */
export function mayReport({ properties }: Subscriber, name: string): boolean {
  return properties?.some((prefix) => name === prefix || name.startsWith(`${prefix}/`)) ?? true;
}

/** Without backtracking: the pieces between the stars are found one after the other. */
function matches(pattern: string, text: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return pattern === text;
  const last = rest.pop() ?? "";
  if (!text.startsWith(first)) return false;
  let index = first.length;
  for (const piece of rest) {
    const found = text.indexOf(piece, index);
    if (found < 0) return false;
    index = found + piece.length;
  }
  return text.length - last.length >= index && text.endsWith(last);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
