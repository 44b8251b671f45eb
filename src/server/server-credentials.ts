import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import type { DigestAlgorithm } from "#digest/index.js";
import { type Subscriber, Subscribers } from "#security/index.js";
import {
  type Credentials,
  loadCredentials,
  loadTrustAnchors,
  type Verdict,
  verifyPeerCertificates,
} from "#x509/index.js";
import type { ServerConfig } from "./server-config.js";
import { type SubscriberConfig, toSubscriber } from "./subscriber-config.js";

/** Subscribers and connection keys of a configuration, in the form that the protocols ask for them. */
export class ServerCredentials {
  readonly subscribers: Subscribers;
  /** The server's own certificate, where it has one. */
  readonly certificate: Credentials | undefined;
  readonly #realm: string;
  readonly #algorithms: readonly DigestAlgorithm[];
  readonly #connectionKeys: ReadonlyMap<string, Uint8Array>;
  /** Trust anchors of client certificates, DER. */
  readonly clientAnchors: readonly Uint8Array[];
  /** Names of the certificates verified of late, by the leaf's hash, oldest first. */
  readonly #verifiedNames = new Map<string, readonly string[]>();

  /** @throws X509Error for a certificate, key or anchor file that does not serve. */
  constructor(config: ServerConfig) {
    const { certificate, key, ca } = config.credentials;
    this.certificate =
      certificate === undefined || key === undefined
        ? undefined
        : loadCredentials(readFileSync(certificate, "utf8"), key.text());
    this.clientAnchors = ca === undefined ? [] : loadTrustAnchors(readFileSync(ca, "utf8"));
    const { dpe1, dpe2 } = config.interfaces;
    this.#realm = config.realm;
    this.#algorithms = [...dpe1.digest.algorithms, ...dpe2.digest.algorithms];
    this.subscribers = new Subscribers(config.subscribers.map((subscriber) => this.#subscriber(subscriber)));
    this.#connectionKeys = new Map(config.credentials.psk.map(({ identity, key }) => [identity, key.reveal()]));
  }

  get hasPsk(): boolean {
    return this.#connectionKeys.size > 0 || this.subscribers.hasPsk;
  }

  /** The key of a PSK identity: a subscriber's own, or one that secures the connection only. */
  pskOf(identity: Uint8Array): Uint8Array | undefined {
    return (
      this.subscribers.ofPskIdentity(identity)?.psk?.key ?? this.#connectionKeys.get(TEXT_DECODER.decode(identity))
    );
  }

  /**
   * Takes subscribers in place of those before. Gives the names of those that are gone, or of which anything changed; of
   * the others the very same objects stay.
   *
   * @throws DigestError DIGEST_BAD_USERNAME, changing nothing.
   */
  replaceSubscribers(configs: readonly SubscriberConfig[]): ReadonlySet<string> {
    const old = new Map([...this.subscribers.all].map((subscriber) => [subscriber.name, subscriber]));
    const next = configs.map((config) => {
      const made = this.#subscriber(config);
      const before = old.get(made.name);
      return before !== undefined && isDeepStrictEqual(before, made) ? before : made;
    });
    const kept = new Set<Subscriber>(next);
    this.subscribers.replace(next);
    return new Set([...old.values()].filter((subscriber) => !kept.has(subscriber)).map(({ name }) => name));
  }

  /** Whether a client's chain leads to an anchor; keeps the names that it proves. */
  async verify(
    certificates: readonly Uint8Array[],
    purpose: "clientAuth" | "serverAuth" = "clientAuth",
  ): Promise<Verdict> {
    const verdict = await verifyPeerCertificates(certificates, {
      anchors: this.clientAnchors,
      purpose,
      atMs: Date.now(),
    });
    const [leaf] = certificates;
    if (verdict.ok && leaf !== undefined) {
      const names = verdict.sans.map(({ value }) => value);
      const key = hashOf(leaf);
      this.#verifiedNames.delete(key);
      this.#verifiedNames.set(key, verdict.commonName === undefined ? names : [...names, verdict.commonName]);
      for (const oldest of this.#verifiedNames.keys()) {
        if (this.#verifiedNames.size <= MAX_VERIFIED_NAMES) break;
        this.#verifiedNames.delete(oldest);
      }
    }
    return verdict;
  }

  /** The names that a verified certificate proves: its subjectAltNames, then its common name. */
  namesOf(leaf: Uint8Array): readonly string[] {
    return this.#verifiedNames.get(hashOf(leaf)) ?? [];
  }

  #subscriber(config: SubscriberConfig): Subscriber {
    return toSubscriber(config, this.#realm, this.#algorithms);
  }
}

function hashOf(certificate: Uint8Array): string {
  return createHash("sha256").update(certificate).digest("base64");
}

const MAX_VERIFIED_NAMES = 10_000;
const TEXT_DECODER = new TextDecoder();
