import { createHash, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import type { DigestAlgorithm } from "#digest/index.js";
import { type Subscriber, Subscribers } from "#security/index.js";
import {
  certificateKeyFingerprint,
  type Credentials,
  keyFingerprint,
  inFile,
  loadCredentials,
  loadPrivateKey,
  loadRevocationLists,
  loadTrustAnchors,
  type RevocationPolicy,
  type Verdict,
  verifyPeerCertificates,
} from "#x509/index.js";
import type { ServerConfig } from "./server-config.js";
import { type SubscriberConfig, toSubscriber } from "./subscriber-config.js";

/** Subscribers and connection keys of a configuration, in the form that the protocols ask for them. */
export class ServerCredentials {
  readonly subscribers: Subscribers;
  readonly #realm: string;
  readonly #algorithms: readonly DigestAlgorithm[];
  #material: Material;
  #generation = 0;
  /** Names of the certificates verified of late, by the leaf's hash, oldest first. */
  readonly #verifiedNames = new Map<string, readonly string[]>();

  /** @throws X509Error for a certificate, key or anchor file that does not serve. */
  constructor(config: ServerConfig) {
    this.#material = readMaterial(config.credentials);
    const { dpe1, dpe2 } = config.interfaces;
    this.#realm = config.realm;
    this.#algorithms = [...dpe1.digest.algorithms, ...dpe2.digest.algorithms];
    this.subscribers = new Subscribers(
      config.subscribers.filter(({ banned }) => banned !== true).map((subscriber) => this.#subscriber(subscriber)),
    );
  }

  /** How often subscribers have changed: what was worked out of them before may not be so any more. */
  get generation(): number {
    return this.#generation;
  }

  /** The server's own certificate, where it has one. */
  get certificate(): Credentials | undefined {
    return this.#material.certificate;
  }

  /** The private key that stands for the server by itself, where it has one. */
  get rawPublicKey(): { readonly privateKey: KeyObject } | undefined {
    return this.#material.rawPublicKey;
  }

  get looksUpRevocation(): boolean {
    return this.#material.revocation !== undefined;
  }

  /** Fingerprints of the keys of those anchors: the same for a CA whose certificate was renewed. */
  get clientAnchorKeys(): readonly string[] {
    return this.#material.clientAnchorKeys;
  }

  /** Trust anchors of client certificates, DER. */
  get clientAnchors(): readonly Uint8Array[] {
    return this.#material.clientAnchors;
  }

  /**
   * Takes certificate, key, anchors, revocation lists and connection keys in place of those before.
   *
   * @throws X509Error for a file that does not serve, changing nothing.
   */
  replaceMaterial(credentials: ServerConfig["credentials"]): void {
    this.#material = readMaterial(credentials);
  }

  get hasPsk(): boolean {
    return this.#material.connectionKeys.size > 0 || this.subscribers.hasPsk;
  }

  /** The key of a PSK identity: a subscriber's own, or one that secures the connection only. */
  pskOf(identity: Uint8Array): Uint8Array | undefined {
    return (
      this.subscribers.ofPskIdentity(identity)?.psk?.key ??
      this.#material.connectionKeys.get(TEXT_DECODER.decode(identity))
    );
  }

  /**
   * Takes subscribers in place of those before. Gives those that are gone, or of which anything changed, as they were; of
   * the others the very same objects stay.
   *
   * @throws DigestError DIGEST_BAD_USERNAME, changing nothing.
   */
  replaceSubscribers(configs: readonly SubscriberConfig[]): readonly Subscriber[] {
    const old = new Map([...this.subscribers.all].map((subscriber) => [subscriber.name, subscriber]));
    const next = configs.map((config) => {
      const made = this.#subscriber(config);
      const before = old.get(made.name);
      return before !== undefined && isDeepStrictEqual(before, made) ? before : made;
    });
    const kept = new Set<Subscriber>(next);
    this.subscribers.replace(next);
    this.#generation += 1;
    return [...old.values()].filter((subscriber) => !kept.has(subscriber));
  }

  /**
   * Takes one in place of the one of that name, or none. Gives who was changed as {@link replaceSubscribers} does; undefined,
   * changing nothing, where that must be asked, as credentials are shared.
   *
   * @throws DigestError DIGEST_BAD_USERNAME, changing nothing.
   */
  changeSubscriber(name: string, config: SubscriberConfig | undefined): readonly Subscriber[] | undefined {
    const before = this.subscribers.named(name);
    const made = config === undefined ? undefined : this.#subscriber(config);
    if (isDeepStrictEqual(before, made)) return [];
    if (!this.subscribers.change(name, made)) return undefined;
    this.#generation += 1;
    return before === undefined ? [] : [before];
  }

  /** Whether a client's chain leads to an anchor; keeps the names that it proves. */
  async verify(
    certificates: readonly Uint8Array[],
    purpose: "clientAuth" | "serverAuth" = "clientAuth",
  ): Promise<Verdict> {
    const verdict = await verifyPeerCertificates(certificates, {
      anchors: this.#material.clientAnchors,
      purpose,
      atMs: Date.now(),
      revocation: this.#material.revocation,
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

  /** Whether a client's raw public key is one of a subscriber: there is nothing else that could vouch for it. */
  verifyRawPublicKey(
    rawPublicKey: Uint8Array,
  ): { readonly ok: true } | { readonly ok: false; readonly alert: "certificate_unknown"; readonly reason: string } {
    const mark = keyFingerprint(rawPublicKey);
    return this.subscribers.ofKeyFingerprint(mark) === undefined
      ? { ok: false, alert: "certificate_unknown", reason: `no subscriber has the public key ${mark}` }
      : { ok: true };
  }

  /** The names that a verified certificate proves: its subjectAltNames, then its common name. */
  namesOf(leaf: Uint8Array): readonly string[] {
    return this.#verifiedNames.get(hashOf(leaf)) ?? [];
  }

  #subscriber(config: SubscriberConfig): Subscriber {
    return toSubscriber(config, this.#realm, this.#algorithms);
  }
}

/** What secures connections: files and keys, as they were read last. */
interface Material {
  readonly certificate: Credentials | undefined;
  readonly rawPublicKey: { readonly privateKey: KeyObject } | undefined;
  readonly clientAnchors: readonly Uint8Array[];
  readonly clientAnchorKeys: readonly string[];
  readonly revocation: RevocationPolicy | undefined;
  readonly connectionKeys: ReadonlyMap<string, Uint8Array>;
}

/** @throws X509Error that begins with the name of the file that does not serve. */
export function readMaterial(credentials: ServerConfig["credentials"]): Material {
  const { rawPublicKey, revocation, psk } = credentials;
  const clientAnchors = clientAnchorsOf(credentials);
  return {
    certificate: ownCertificateOf(credentials),
    rawPublicKey: rawPublicKey && {
      privateKey: inFile(rawPublicKey.path ?? "credentials.rawPublicKey", () => loadPrivateKey(rawPublicKey.text())),
    },
    clientAnchors,
    clientAnchorKeys: clientAnchors.map((anchor) => certificateKeyFingerprint(anchor) ?? "").toSorted(),
    revocation:
      revocation === undefined
        ? undefined
        : {
            lists: revocation.lists.flatMap((file) => inFile(file, () => loadRevocationLists(readFileSync(file)))),
            isRequired: revocation.required,
          },
    connectionKeys: new Map(psk.map(({ identity, key: secret }) => [identity, secret.reveal()])),
  };
}

/** Trust anchors of client certificates, DER. @throws X509Error. */
export function clientAnchorsOf({ ca }: Pick<ServerConfig["credentials"], "ca">): readonly Uint8Array[] {
  return ca === undefined ? [] : inFile(ca, () => loadTrustAnchors(readFileSync(ca, "utf8")));
}

/** The server's own certificate with its key; `atMs`: not expired by then. @throws X509Error. */
export function ownCertificateOf(
  { certificate, key }: Pick<ServerConfig["credentials"], "certificate" | "key">,
  atMs?: number,
): Credentials | undefined {
  if (certificate === undefined || key === undefined) return undefined;
  const files = key.path === undefined ? certificate : `${certificate} with ${key.path}`;
  return inFile(files, () => loadCredentials(readFileSync(certificate, "utf8"), key.text(), atMs));
}

function hashOf(certificate: Uint8Array): string {
  return createHash("sha256").update(certificate).digest("base64");
}

const MAX_VERIFIED_NAMES = 10_000;
const TEXT_DECODER = new TextDecoder();
